defmodule Cryptoki.HSM do
  @moduledoc false
  # What stands for an HSM in a call, found without asking any process: an instance, or the session of
  # `Cryptoki.with_session/3` that this process holds. And how it comes to hold one. And whether it is on this node:
  # `at/2` has the function that it stands before run where the token is.

  alias Cryptoki.{Call, Elsewhere, Error, Groups, Instances, Session, Target}
  alias Cryptoki.Group.Router
  alias Cryptoki.Native.Wait

  @type t :: Session.t() | GenServer.name() | pid

  @doc """
  Calls a function, `at(hsm, Module.function(hsm, ...))`: here, or as the same function of the node of `hsm`, or of a
  member of the group that `hsm` is.
  """
  defmacro at(hsm, {{:., _, [module, function]}, _, arguments} = call) do
    quote do
      if unquote(__MODULE__).here?(unquote(hsm)),
        do: unquote(call),
        else:
          unquote(__MODULE__).there(
            unquote(hsm),
            {unquote(module), unquote(function), unquote(arguments)}
          )
    end
  end

  @doc "Whether it is an instance of this node or a session of one, or nothing that has a node."
  @spec here?(term) :: boolean
  def here?(name) when is_atom(name), do: Groups.get(name) == nil
  def here?(pid) when is_pid(pid), do: node(pid) == node() and Groups.get(pid) == nil
  def here?(%Session{there: host, member: member}), do: host == nil and member == nil
  def here?({:global, _term} = name), do: name |> Instances.whereis() |> here?()
  def here?({:via, _module, _term} = name), do: name |> Instances.whereis() |> here?()
  def here?({name, node}) when is_atom(name) and is_atom(node), do: node == node() and here?(name)
  def here?(_other), do: true

  @doc "The group that it is; nil when it is none."
  @spec group(term) :: Groups.t() | nil
  def group(name) when is_atom(name) or is_pid(name), do: Groups.get(name)
  def group(%Session{}), do: nil
  def group({name, node}) when name != :global and is_atom(node) and node != node(), do: nil
  def group(hsm), do: hsm |> Instances.whereis() |> Groups.get()

  @doc "The same, or one of its members, for what has to stay with one."
  @spec one(t | term) :: {:ok, t | term} | {:error, Error.t()}
  def one(hsm) do
    if here?(hsm) do
      {:ok, hsm}
    else
      case group(hsm) do
        nil -> one_there(hsm)
        group -> Router.one(group)
      end
    end
  end

  defp one_there(hsm) do
    with {:ok, name, node} <- address(hsm),
         do: Elsewhere.call(node, name, {__MODULE__, :one_here, [nil, name]})
  end

  @doc "The same for another node, by what it is called there."
  @spec one_here(nil, atom | pid) :: {:ok, t} | {:error, Error.t()}
  def one_here(nil, name) do
    with {:ok, one} when is_atom(one) <- one(name), do: {:ok, {one, node()}}
  end

  @doc "Runs a function, whose first argument is `hsm` or an operation of it, where `hsm` is."
  @spec there(t | term, Elsewhere.verb()) :: term
  def there(%Session{member: nil} = session, verb) do
    _ = held!(session)
    Elsewhere.on_session(session, verb)
  end

  def there(%Session{} = session, verb) do
    _ = held!(session)
    Router.on_session(session, verb)
  end

  def there(hsm, {module, function, [_hsm | arguments]} = verb) do
    case group(hsm) do
      nil ->
        with {:ok, name, node} <- address(hsm),
             do: Elsewhere.call(node, name, {module, function, [name | arguments]})

      group ->
        Router.run(group, verb)
    end
  end

  defp address({name, node}) when name != :global and is_atom(node), do: {:ok, name, node}

  # Its name may have gone since.
  defp address(hsm) do
    case Instances.whereis(hsm) do
      nil -> {:error, Instances.missing(hsm)}
      pid -> {:ok, pid, node(pid)}
    end
  end

  @doc "What `hsm` names, for one call with the options of `Options.call!/2`."
  @spec target(t | term, map) :: {:ok, Target.t()} | {:error, Error.t()}
  def target(hsm, options \\ %{})

  def target(%Session{there: nil} = session, options),
    do: {:ok, session |> held!() |> with_options(options)}

  def target(%Session{there: host}, _options),
    do:
      {:error, Error.new(:unsupported, "a session of #{host.node} cannot be used for this here")}

  def target(hsm, options) do
    case Instances.lookup(hsm) do
      {:ok, target} -> {:ok, with_options(target, options)}
      :error -> {:error, Instances.missing(hsm)}
    end
  end

  defp with_options(target, options) do
    %{
      target
      | deadline: Wait.deadline(options[:timeout] || target.timeout),
        metadata: options[:metadata] || %{}
    }
  end

  defp held!(%Session{owner: owner, target: target}) when owner == self(), do: target

  defp held!(%Session{owner: owner}) do
    raise ArgumentError,
          "this session belongs to #{inspect(owner)}, the process that called with_session/3; " <>
            "#{inspect(self())} cannot use it"
  end

  @doc "Runs a function with a session of its own; a session inside a session is the same one."
  @spec with_session(t | term, map, (Session.t() -> result), Elsewhere.verb() | nil) ::
          result | {:error, Error.t()}
        when result: term
  def with_session(hsm, options, fun, purpose \\ nil) do
    with {:ok, session, give_back} <- take(hsm, options, purpose) do
      try do
        fun.(session)
      after
        give_back.()
      end
    end
  end

  @doc """
  A session and what gives it back: for those that cannot stand in one function. `purpose` is what is called on it then,
  where that is known: a group has to give one that has its keys.
  """
  @spec take(t | term, map, Elsewhere.verb() | nil) ::
          {:ok, Session.t(), (() -> :ok)} | {:error, Error.t()}
  def take(hsm, options, purpose \\ nil)

  def take(%Session{} = session, _options, _purpose) do
    _ = held!(session)
    {:ok, session, fn -> :ok end}
  end

  def take(hsm, options, purpose) do
    cond do
      here?(hsm) -> take_here(hsm, options)
      group = group(hsm) -> Router.take(group, {__MODULE__, :take, [hsm, options]}, purpose)
      true -> take_there(hsm, Map.take(options, [:timeout, :metadata]), purpose)
    end
  end

  # What a session needs of the options is no secret.
  defp take_there(hsm, options, purpose) do
    with {:ok, name, node} <- address(hsm) do
      verb = {__MODULE__, :take_for, [nil, name, options, purpose]}
      Elsewhere.take(node, name, options, verb, purpose)
    end
  end

  @doc "A session for a caller of another node, of what has that name here."
  @spec take_for(nil, atom | pid, map, Elsewhere.verb() | nil) ::
          {:ok, Session.t(), (() -> :ok)} | {:error, Error.t()}
  def take_for(nil, name, options, purpose), do: take(name, options, purpose)

  defp take_here(hsm, options) do
    with {:ok, target} <- target(hsm, options),
         {:ok, leased} <- Call.lease(target) do
      session = %Session{owner: self(), target: %{target | queue: leased}}
      # Whatever was left behind is cancelled or closed before anybody else gets it.
      {:ok, session, fn -> Wait.give_back(leased) end}
    end
  end
end

defmodule Cryptoki.Elsewhere do
  @moduledoc false
  # A call to an instance of another node: the verb runs there as a whole, in one trip, with what it was given;
  # its answer comes back. `Cryptoki.HSM` decides what is elsewhere.
  #
  # What needs a process of its own there, a session or a stream that is read here, has a host
  # (`Cryptoki.Elsewhere.Host`), which runs one verb after the other for one caller and ends with it.
  #
  # Whichever version of this library is there, `answer/3` takes what versions before and after it send: the version
  # first, which it compares, and anything behind it.

  alias Cryptoki.{Chunks, Error, Groups, Instances, Session, Target}
  alias Cryptoki.Elsewhere.{Host, Secrets}
  alias Cryptoki.Group.Verbs
  alias Cryptoki.Native.Wait

  @type verb :: {module, atom, [term]}
  @type name :: atom | pid

  # Milliseconds for which a node is waited for that has not said yet how long its instance takes at most,
  @unknown 15_000
  # and by which the other node's own word is waited for longer: it knows whether the token was asked.
  @slack 250

  @doc "Runs a verb of `name` on its node."
  @spec call(node, name, verb) :: term
  def call(node, name, {_module, _function, arguments} = verb) do
    with :ok <- Secrets.none(node, arguments),
         {:ok, timeout} <- timeout(node, name, arguments) do
      case streamed(arguments) do
        nil -> once(node, name, verb, timeout)
        stream -> with_host(node, timeout, &Host.run(&1, verb, stream, timeout))
      end
      |> forget(node, name)
    end
  end

  @doc "Runs one where the session is."
  @spec on_session(Session.t(), verb) :: term
  def on_session(%Session{there: host, target: target} = session, {_, _, arguments} = verb) do
    with :ok <- Secrets.none(host.node, arguments) do
      timeout = patience(given(arguments) || target.timeout)

      case Host.run(host, verb, streamed(arguments), timeout) do
        # An operation that has begun there, by the session that it has here.
        {:ok, %{session: %Session{}, number: _} = op} -> {:ok, %{op | session: session}}
        answer -> answer
      end
    end
  end

  @doc "A session there, for the calling process, and what gives it back; `purpose` is what it is for."
  @spec take(node, name, map, verb, verb | nil) ::
          {:ok, Session.t(), (() -> :ok)} | {:error, Error.t()}
  def take(node, name, options, verb, purpose \\ nil) do
    with :ok <- Secrets.none(node, if(purpose, do: elem(purpose, 2), else: [name])),
         {:ok, timeout} <- timeout(node, name, [options]),
         {:ok, host} <- host(node, timeout) do
      case taken(host, verb, timeout) do
        {:ok, about} ->
          # What it has besides is there.
          target = struct(Target, about)
          {:ok, %Session{owner: self(), target: target, there: host}, fn -> Host.leave(host) end}

        {:error, _error} = error ->
          Host.leave(host)
          forget(error, node, name)
      end
    end
  end

  # Nobody else would have it leave: its caller may live for ever.
  defp taken(host, verb, timeout) do
    Host.run(host, verb, nil, timeout)
  rescue
    error ->
      Host.leave(host)
      reraise error, __STACKTRACE__
  end

  ## The other side

  @doc "Runs a verb for a caller of another node, which says its version first."
  @spec answer(String.t(), name | nil, verb) ::
          {:version, String.t()} | {:answer, term, timeout | nil} | {:raised, Exception.t()}
  def answer(version, name, verb) do
    case version() do
      ^version -> run(name, verb)
      here -> {:version, here}
    end
  end

  defp run(name, verb) do
    {:answer, Groups.here(verb), name && timeout_of(name)}
  rescue
    error -> {:raised, error}
  end

  defp timeout_of(name) do
    case Groups.get(name) do
      nil -> with({:ok, target} <- Instances.lookup(name), do: target.timeout, else: (_ -> nil))
      group -> Groups.patience(group)
    end
  end

  @doc "Nothing, said by a node that can be reached."
  @spec nothing() :: :ok
  def nothing, do: :ok

  @spec version() :: String.t()
  def version, do: :cryptoki |> Application.spec(:vsn) |> to_string()

  ## One trip

  defp once(node, name, verb, timeout) do
    case trip(node, [version(), name, verb], timeout) do
      {:answer, answer, said} ->
        remember(node, name, said)
        answer

      {:raised, error} ->
        raise error

      {:error, _error} = error ->
        error
    end
  end

  # It was connected: whatever ends the connection now may have come after the verb had begun.
  defp trip(node, arguments, timeout) do
    case :erpc.call(node, __MODULE__, :answer, arguments, timeout) do
      {:version, there} -> {:error, other_version(node, there)}
      answer -> answer
    end
  rescue
    error in ErlangError -> {:error, failed(error.original, node)}
  catch
    # The process that ran it there was killed.
    :exit, _reason -> {:error, down(node, "the call was ended there", :maybe)}
  end

  defp failed({:erpc, :timeout}, node),
    do:
      Error.new(:timeout, "#{node} has not answered, it may have been executed", executed: :maybe)

  defp failed({:erpc, _noconnection}, node), do: down(node, "the connection was lost", :maybe)

  defp failed({:exception, :undef, [{__MODULE__, :answer, _, _} | _]}, node),
    do: other_version(node, nil)

  defp failed(_other, node), do: down(node, "the call was ended there", :maybe)

  @doc "That a node is away, and what is known."
  @spec down(node, String.t(), false | :maybe) :: Error.t()
  def down(node, what, executed),
    do: Error.new(:node_down, "#{node}: #{what}", executed: executed)

  # Its application may not even be loaded.
  defp other_version(node, there) when there in [nil, ""],
    do:
      Error.new(
        :unsupported,
        "there is no cryptoki on #{node}, or an older one; here is #{version()}"
      )

  defp other_version(node, there) do
    detail =
      "cryptoki is #{there} on #{node} and #{version()} here: nodes that call each other need the same"

    Error.new(:unsupported, detail)
  end

  ## Before the first one

  # A node that is not connected, or an instance of which nothing is known, is asked something without
  # consequences first: then an error is one of a call that was not made.
  defp timeout(node, name, arguments) do
    given = given(arguments)
    known = given || (is_atom(name) && Instances.get(name, {:there, node})) || nil

    if known != nil and node in Node.list(:connected) do
      {:ok, patience(known)}
    else
      deadline = Wait.deadline(given || @unknown)

      with {:ok, said} <- greet(node, name, given || @unknown) do
        if given && given != :infinity,
          do: {:ok, patience(Wait.remaining(deadline))},
          else: {:ok, patience(given || said || @unknown)}
      end
    end
  end

  defp greet(node, name, timeout) do
    case trip(node, [version(), name, {__MODULE__, :nothing, []}], timeout) do
      {:answer, :ok, said} ->
        remember(node, name, said)
        {:ok, said}

      {:error, %Error{reason: :node_down}} ->
        {:error, down(node, unreachable(), false)}

      {:error, error} ->
        {:error, %{error | detail: said(error, node), executed: false}}
    end
  end

  defp said(%Error{reason: :timeout}, node),
    do: "#{node} has not answered, nothing was sent to its token"

  defp said(error, _node), do: error.detail

  defp unreachable do
    if Node.alive?(),
      do: "it cannot be reached, nothing was sent to its token",
      else: "this node has no name, and reaches no other"
  end

  # Only of instances that run; pids are not kept, for they end.
  defp remember(node, name, timeout) when is_atom(name) and name != nil and timeout != nil do
    if Instances.get(name, {:there, node}) != timeout,
      do: Instances.put(name, {:there, node}, timeout)
  end

  defp remember(_node, _name, _timeout), do: :ok

  # An instance that was started anew may have another timeout, and its answers would come too late to say so.
  defp forget({:error, %Error{reason: reason}} = answer, node, name)
       when reason in [:timeout, :node_down] do
    if is_atom(name), do: Instances.delete(name, {:there, node})
    answer
  end

  defp forget(answer, _node, _name), do: answer

  defp patience(:infinity), do: :infinity
  defp patience(timeout), do: timeout + @slack

  # The `timeout:` of a call, which is the last of its arguments, or of the operation that is its first.
  defp given(arguments) do
    options =
      with %{session: _, options: %{} = options} <- hd(arguments),
           do: options,
           else: (_hsm -> List.last(arguments))

    case Verbs.option(options, :timeout) do
      timeout when timeout == :infinity or (is_integer(timeout) and timeout > 0) -> timeout
      _none -> nil
    end
  end

  defp streamed(arguments) do
    with {:stream, enumerable} <- Enum.find(arguments, &match?({:stream, _}, &1)),
         true <- Chunks.enumerable?(enumerable),
         do: enumerable,
         else: (_none -> nil)
  end

  ## Hosts

  defp with_host(node, timeout, fun) do
    with {:ok, host} <- host(node, timeout) do
      try do
        fun.(host)
      after
        Host.leave(host)
      end
    end
  end

  # One that comes into being too late for its caller has nothing, and ends with it.
  defp host(node, timeout) do
    case trip(node, [version(), nil, {Host, :start, [self()]}], timeout) do
      {:answer, pid, nil} -> {:ok, %{pid: pid, node: node}}
      {:error, error} -> {:error, %{error | executed: false}}
    end
  end
end

defmodule Cryptoki.Keys do
  @moduledoc false
  # From what names a key to the handle the library knows it by.
  #
  # A handle is good as long as its number means the object it was given for. The cache of an instance
  # maps what was looked for to the handle it was found under; a `%Key{}` carries its handle and is used
  # as it is until the native side calls it stale. Then its object is gone, and that is the answer, or it
  # is looked for by what identifies it, and its fingerprint has to agree: it is found again or not at
  # all, but never another one.

  import Cryptoki.Names, only: [is_proper_list: 1]

  alias Cryptoki.{
    Attribute,
    Cache,
    Call,
    Each,
    Error,
    Instances,
    Key,
    Mechanism,
    Names,
    Selector
  }

  alias Cryptoki.{Target, TokenServer, URI}
  alias Cryptoki.Keys.{Description, Identity}
  alias Cryptoki.Native.Wait

  @type handle :: Cryptoki.Native.handle()

  @typedoc "A checked selector: every template to look with, where, and how to call it."
  @type wanted ::
          {:key, Key.t()} | {:search, [Attribute.wire()], URI.t() | nil, shown :: String.t()}

  @typedoc "A checked mechanism and the keys that its arguments name."
  @type mechanism :: {Mechanism.wire(), [wanted]}

  # Epochs that may end, and doubts that may come up, while an object is read.
  @attempts 5

  # What may be shown of a selector; other attributes may be key bytes.
  @shown [:class, :label, :id, :key_type, :unique_id, :application, :token]

  @doc "Checks a selector for a verb; raises `ArgumentError`."
  @spec wanted!(Selector.selector(), atom) :: wanted
  def wanted!(selector, verb) do
    case Selector.normalize!(selector, verb) do
      {:key, key} ->
        {:key, key}

      {:search, template, classes} ->
        templates =
          for class <- classes || [nil] do
            Attribute.encode!(if(class == nil, do: template, else: [{:class, class} | template]))
          end

        {:search, templates, Selector.place(selector), shown(template, classes)}
    end
  end

  defp shown(template, classes) do
    classes = if classes, do: [Enum.map_join(classes, " or ", &"class: #{inspect(&1)}")], else: []

    (classes ++ Enum.map(template, &shown/1)) |> Enum.join(", ")
  end

  defp shown({name, value}) when name in @shown, do: "#{name}: #{inspect(value)}"
  defp shown({name, _value}) when is_atom(name), do: "#{name}: ..."
  defp shown({code, _value}), do: "0x#{Integer.to_string(code, 16)}: ..."

  @doc "Checks a mechanism, with the selectors of keys among its arguments; raises `ArgumentError`."
  @spec mechanism!(Mechanism.spec(), keyword) :: mechanism
  def mechanism!(spec, context \\ [])

  def mechanism!({name, arguments} = spec, context) when is_atom(name) or is_integer(name) do
    spec = if is_proper_list(arguments) or is_map(arguments), do: with_wanted!(spec), else: spec
    {_type, parameter} = wire = Mechanism.encode!(spec, context)
    {wire, parameter |> inner() |> Enum.uniq()}
  end

  def mechanism!(spec, context), do: {Mechanism.encode!(spec, context), []}

  defp with_wanted!(spec) do
    {:ok, spec} = Mechanism.resolve_keys(spec, &{:ok, wanted!(&1, :any)})
    spec
  end

  defp inner({:handle, {kind, _} = wanted}) when is_atom(kind), do: [wanted]
  defp inner({:handle, {:search, _, _, _} = wanted}), do: [wanted]
  defp inner({kind, fields}) when kind in [:struct, :nested, :array], do: inner(fields)
  defp inner(fields) when is_list(fields), do: Enum.flat_map(fields, &inner/1)
  defp inner(_plain), do: []

  @doc """
  Runs an operation on keys: `op` makes it of their handles, in the order given, and of the
  mechanism, when there is one, or says why not.
  """
  @spec run(
          Target.t(),
          atom,
          [wanted],
          mechanism | nil,
          ([handle], Mechanism.wire() | nil -> tuple | {:error, Error.t()})
        ) ::
          Wait.answer()
  def run(target, operation, wanted, mechanism \\ nil, op)

  def run(%Target{} = target, _operation, [], no_keys, op)
      when no_keys == nil or elem(no_keys, 1) == [],
      do: Call.run(target, op.([], no_keys && elem(no_keys, 0)))

  def run(%Target{} = target, operation, wanted, mechanism, op) do
    Call.run(target, operation, fn keys ->
      with {:ok, handles} <- resolve_all(target, wanted, keys, []),
           {:ok, mechanism} <- fill(target, mechanism, keys),
           operation when elem(operation, 0) != :error <- op.(handles, mechanism),
           do: {:ok, operation}
    end)
  end

  defp resolve_all(_target, [], _keys, handles), do: {:ok, Enum.reverse(handles)}

  defp resolve_all(target, [wanted | rest], keys, handles) do
    with {:ok, handle} <- resolve(target, wanted, keys),
         do: resolve_all(target, rest, keys, [handle | handles])
  end

  defp fill(_target, nil, _keys), do: {:ok, nil}
  defp fill(_target, {wire, []}, _keys), do: {:ok, wire}

  defp fill(target, {{type, parameter}, wanted}, keys) do
    with {:ok, handles} <- resolve_all(target, wanted, keys, []),
         do: {:ok, {type, replace(parameter, wanted |> Enum.zip(handles) |> Map.new())}}
  end

  defp replace({:handle, wanted}, handles), do: {:handle, Map.get(handles, wanted, wanted)}

  defp replace({kind, fields}, handles) when kind in [:struct, :nested, :array],
    do: {kind, replace(fields, handles)}

  defp replace(fields, handles) when is_list(fields), do: Enum.map(fields, &replace(&1, handles))
  defp replace(plain, _handles), do: plain

  @doc "The one object that is wanted."
  @spec resolve(Target.t(), wanted, :cached | :fresh) :: {:ok, handle} | {:error, Error.t()}
  def resolve(target, wanted, :cached) do
    with :error <- Cache.get(target.cache, cache_key(target, wanted)), do: known(target, wanted)
  end

  def resolve(target, {:search, _, _, _} = wanted, :fresh) do
    with {:ok, handle} <- look(target, wanted) do
      Cache.put_found(target.cache, cache_key(target, wanted), handle, asked(wanted))
      {:ok, handle}
    end
  end

  def resolve(target, {:key, key} = wanted, :fresh) do
    case standing(target, key) do
      {:ok, :current} ->
        {:ok, key.handle}

      {:ok, :gone} ->
        gone(key, "was destroyed, or has ended with its session")

      {:ok, :over} ->
        gone(key, "has ended with its session")

      {:ok, :elsewhere} ->
        gone(key, "is of a session of another node, or of this one before it was started anew")

      {:ok, :unknown} ->
        with {:ok, handle} <- look(target, wanted) do
          Cache.put(target.cache, cache_key(target, wanted), handle)
          {:ok, handle}
        end

      {:error, _error} = error ->
        error
    end
  end

  defp gone(key, why),
    do: {:error, Error.new(:key_not_found, "#{inspect(key)} #{why}")}

  # The names of a key that has ended with its session may be those of one on the token. The numbers that another
  # VM has given are those of other objects here.
  defp standing(target, %Key{handle: {_, _, _}, token_info: %{instance: pid}} = key)
       when is_pid(pid) do
    if of_this_vm?(pid),
      do: standing_here(target, key),
      else: {:ok, if(key.token == false, do: :elsewhere, else: :unknown)}
  end

  defp standing(target, %Key{handle: {_, _, _}} = key), do: standing_here(target, key)
  defp standing(_target, _key), do: {:ok, :unknown}

  # The creation, which tells a node from the one of the same name before it, is at the end.
  defp of_this_vm?(pid), do: node(pid) == node() and creation(pid) == creation(self())
  defp creation(pid), do: pid |> :erlang.term_to_binary() |> binary_slice(-4..-1)

  defp standing_here(target, %Key{handle: handle} = key) do
    with {:ok, :unknown} <- Wait.standing(target.native, handle),
         do: {:ok, if(key.token == false and ours?(target, key), do: :over, else: :unknown)}
  end

  # What all templates of a selector have in common; those of a verb differ in the class.
  defp asked({:search, [template | more], _place, _shown}) do
    [class, label, id] =
      for code <- Attribute.types!([:class, :label, :id]),
          do: with({_code, value} <- List.keyfind(template, code, 0), do: value)

    %{class: if(more == [] and is_integer(class), do: class), label: label, id: id}
  end

  @doc """
  What `read` says of the object that is wanted, asked once for each `what`: for what never changes.
  `{:now, value}` and errors are asked again.
  """
  @spec once(
          Target.t(),
          wanted,
          atom,
          (handle -> {:ok, term} | {:now, term} | {:error, Error.t()})
        ) :: {:ok, term} | {:error, Error.t()}
  def once(target, wanted, what, read) do
    # What never changes was perhaps read by the handle that the key carries, whatever it has now.
    with :error <- by_own_handle(target, wanted, what),
         do: once(target, wanted, what, read, :cached, @attempts)
  end

  defp by_own_handle(target, {:key, key}, what),
    do: if(ours?(target, key), do: Cache.get(target.cache, {what, key.handle}), else: :error)

  defp by_own_handle(_target, _search, _what), do: :error

  defp once(target, wanted, what, read, keys, attempts) do
    with {:ok, handle} <- resolve(target, wanted, keys),
         :error <- Cache.get(target.cache, {what, handle}),
         {:ok, known} <- read.(handle) do
      Cache.put(target.cache, {what, handle}, known)
      {:ok, known}
    else
      {:ok, known} ->
        {:ok, known}

      {:now, value} ->
        {:ok, value}

      {:error, %Error{reason: reason}}
      when attempts > 1 and reason in [:stale_handle, :object_handle_invalid] ->
        once(target, wanted, what, read, :fresh, attempts - 1)

      {:error, _error} = error ->
        error
    end
  end

  @doc "Attributes of the object that is wanted, by name."
  @spec attributes(Target.t(), wanted, [Attribute.name()]) :: {:ok, map} | {:error, Error.t()}
  def attributes(target, wanted, names) do
    op = fn [handle], nil -> {:attributes, handle, Attribute.types!(names)} end

    with {:ok, answer} <- run(target, :attributes, [wanted], op),
         do: {:ok, Attribute.decode(answer, names)}
  end

  @doc "What was learned of the object that is wanted while it was used."
  @spec learned(Target.t(), wanted, term) :: {:ok, term} | :error
  def learned(target, wanted, what) do
    with {:ok, handle} <- resolve(target, wanted, :cached),
         {:ok, value} <- Cache.get(target.cache, {what, handle}),
         do: {:ok, value},
         else: (_nothing -> :error)
  end

  @doc "Remembers it."
  @spec learn(Target.t(), wanted, term, term) :: :ok
  def learn(target, wanted, what, value) do
    with {:ok, handle} <- resolve(target, wanted, :cached),
         do: Cache.put(target.cache, {what, handle}, value)

    :ok
  end

  defp cache_key(_target, {:search, templates, place, _shown}), do: {templates, place}

  defp cache_key(target, {:key, key}) do
    if ours?(target, key),
      do: key.handle,
      else: {key.class, key.unique_id, key.id, key.label, key.fingerprint, key.token, key.handle}
  end

  defp known(target, {:key, key} = wanted) do
    if ours?(target, key), do: {:ok, key.handle}, else: resolve(target, wanted, :fresh)
  end

  defp known(target, wanted), do: resolve(target, wanted, :fresh)

  # A handle means something to the instance that gave it, only.
  defp ours?(%Target{instance: instance}, %Key{handle: {_, _, _}, token_info: token}),
    do: match?(%{instance: ^instance}, token)

  defp ours?(_target, _key), do: false

  ## Looking

  defp look(target, {:search, templates, place, shown}) do
    with :ok <- on_this_token(target, place, shown),
         {:ok, handles} <- search(target, templates, 2),
         do: one(handles, shown)
  end

  defp look(target, {:key, key}) do
    with :ok <- same_token(target, key),
         {:ok, template} <- Identity.template(key),
         {:ok, handles} <- search(target, [template], 0),
         {:ok, handles} <- same(target, key, Identity.of_session(handles, key)),
         do: one(handles, inspect(key))
  end

  defp one([handle], _shown), do: {:ok, handle}
  defp one([], shown), do: {:error, Error.new(:key_not_found, shown)}
  defp one(_several, shown), do: {:error, Error.new(:key_ambiguous, shown)}

  defp on_this_token(_target, nil, _shown), do: :ok

  # RFC 7512, section 2.5: all that the URI says of library, slot and token has to fit.
  defp on_this_token(target, place, shown) do
    with {:ok, %{slot: slot, token: token}} <- Instances.facts(target),
         true <- place.slot_id in [nil, slot] and URI.matches_token?(place, token),
         {:ok, true} <- in_this_slot(target, place, slot),
         {:ok, true} <- by_this_library(target, place) do
      :ok
    else
      {:error, _error} = error -> error
      _other -> {:error, Error.new(:key_not_found, "#{shown} is asked for on #{place}")}
    end
  end

  defp in_this_slot(_target, %URI{slot_description: nil, slot_manufacturer: nil}, _slot),
    do: {:ok, true}

  defp in_this_slot(target, place, slot) do
    with {:ok, slots} <- Wait.control(target.library, {:slots}, target.deadline),
         do: {:ok, Enum.any?(slots, &(&1.id == slot and URI.matches_slot?(place, &1)))}
  end

  defp by_this_library(_target, %URI{
         library_manufacturer: nil,
         library_description: nil,
         library_version: nil
       }),
       do: {:ok, true}

  defp by_this_library(target, place) do
    with {:ok, info} <- Wait.control(target.library, {:library_info}, target.deadline),
         do: {:ok, URI.matches_library?(place, info)}
  end

  defp same_token(target, %Key{token_info: %{serial: serial} = there} = key) do
    with {:ok, %{token: here}} <- Instances.facts(target) do
      if here.serial == serial and here.model == there.model,
        do: :ok,
        else: {:error, Error.new(:key_not_found, "#{inspect(key)} is on another token")}
    end
  end

  defp same_token(_target, _key), do: :ok

  defp same(target, key, handles) do
    with true <- Identity.compared?(key),
         {:ok, candidates} <- describe_all(target, handles) do
      {:ok, for(found <- candidates, Identity.same?(found, key), do: found.handle)}
    else
      false -> {:ok, handles}
      {:error, _error} = error -> error
    end
  end

  @doc "The handles of all objects that fit one of the templates; at most `max` each, 0 for all."
  @spec search(Target.t(), [Attribute.wire()], non_neg_integer) ::
          {:ok, [handle]} | {:error, Error.t()}
  def search(target, templates, max) do
    epoch = epoch(target)

    with {:ok, []} <- find(target, templates, max),
         # Nothing found where there is no token any more says nothing,
         {:ok, %{logged_in: true}} <- Instances.facts(target),
         :ok <- logged_in(target),
         {:ok, []} <- find(target, templates, max) do
      # and nothing found while it restarted neither.
      if epoch(target) == epoch, do: {:ok, []}, else: search(target, templates, max)
    else
      {:ok, %{logged_in: false}} -> {:ok, []}
      found_or_error -> found_or_error
    end
  end

  defp epoch(target) do
    with {:ok, %{epoch: epoch}} <- Wait.instance_info(target.native), do: epoch
  end

  @doc "The handles of everything that fits a selector."
  @spec find_all(Target.t(), wanted) :: {:ok, [handle]} | {:error, Error.t()}
  def find_all(target, {:search, templates, place, shown}) do
    with :ok <- on_this_token(target, place, shown), do: search(target, templates, 0)
  end

  defp find(target, templates, max) do
    with {:ok, found} <- Each.of(templates, &Call.run(target, {:find, &1, max})),
         do: {:ok, Enum.concat(found)}
  end

  # A token that lost the login shows no private objects and calls that success. It may also have
  # been back a moment after the objects were looked for: hence a second look in any case.
  defp logged_in(target) do
    with {:ok, %{state: state}} <- Call.run(target, {:session_info}) do
      if Names.name(:session_state, state) in [:ro_public_session, :rw_public_session],
        do: TokenServer.login(target),
        else: :ok
    end
  end

  ## Describing

  @doc "The object just made. What selectors find may have changed with it."
  @spec made(Target.t(), handle) :: {:ok, Key.t()} | {:error, Error.t()}
  def made(target, handle) do
    case describe(target, handle) do
      {:ok, key} ->
        forget_namesakes(target, key)
        {:ok, key}

      # It exists, whatever became of the attempt to read it.
      {:error, error} ->
        Cache.clear(target.cache)
        {:error, %{error | executed: :maybe}}
    end
  end

  defp forget_namesakes(target, %Key{class: class} = key) when is_integer(class),
    do: Cache.made(target.cache, %{class: class, label: key.label || "", id: key.id || ""})

  defp forget_namesakes(target, key) do
    case Names.code(:class, key.class) do
      {:ok, class} -> forget_namesakes(target, %{key | class: class})
      :error -> Cache.clear(target.cache)
    end
  end

  defdelegate describe_all(target, handles), to: Description
  defdelegate describe(target, handle), to: Description
  defdelegate readable(target, handle), to: Description
  defdelegate read(target, handle, names), to: Description
  defdelegate gone?(target, handle, error), to: Description
end

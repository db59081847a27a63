defmodule Cryptoki.Objects do
  @moduledoc false
  # The verbs for objects: finding, reading, changing, making and destroying them.

  import Cryptoki.Names, only: [is_proper_list: 1]

  require Cryptoki.HSM

  alias Cryptoki.{
    Attribute,
    Beside,
    Cache,
    Call,
    Error,
    HSM,
    Key,
    Keys,
    KeyTemplate,
    Mechanism,
    Options
  }

  alias Cryptoki.{PublicKey, Selector, Unread}
  alias Cryptoki.PublicHalf.Certificate
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  @options [:timeout, :metadata]
  # Epochs that may end while a list of objects is read.
  @attempts 5

  ## Finding

  def find(hsm, selector, opts) do
    options = Options.call!(opts, @options)
    wanted = Keys.wanted!(selector, :find)
    with {:ok, target} <- HSM.target(hsm, options), do: all(target, wanted, :cached, @attempts)
  end

  defp all(target, wanted, keys, attempts) do
    with {:ok, handles} <- handles(target, wanted, keys),
         {:ok, keys} <- Keys.describe_all(target, handles) do
      {:ok, keys}
    else
      {:error, %Error{reason: :stale_handle}} when attempts > 1 ->
        all(target, wanted, :fresh, attempts - 1)

      {:error, _error} = error ->
        error
    end
  end

  defp handles(target, {:key, _key} = wanted, keys) do
    case Keys.resolve(target, wanted, keys) do
      {:ok, handle} -> {:ok, [handle]}
      {:error, %Error{reason: :key_not_found}} -> {:ok, []}
      {:error, _error} = error -> error
    end
  end

  defp handles(target, {:search, _, _, _} = wanted, _keys), do: Keys.find_all(target, wanted)

  def find_one(hsm, selector, opts) do
    options = Options.call!(opts, @options)
    wanted = Keys.wanted!(selector, :any)

    with {:ok, target} <- HSM.target(hsm, options),
         {:ok, handle} <- Keys.resolve(target, wanted, :cached),
         do: describe(target, wanted, handle, @attempts)
  end

  # The handle may have been in the cache for longer than the object has lived, or the epoch end meanwhile.
  defp describe(target, wanted, handle, attempts) do
    case Keys.describe(target, handle) do
      {:error, %Error{reason: reason}}
      when attempts > 1 and reason in [:stale_handle, :object_handle_invalid] ->
        with {:ok, handle} <- Keys.resolve(target, wanted, :fresh),
             do: describe(target, wanted, handle, attempts - 1)

      described ->
        described
    end
  end

  # No session is held while the stream is consumed: the handles are taken at once, they are small,
  # and the objects read as they are asked for.
  def stream(hsm, selector, opts) do
    options = Options.call!(opts, @options)
    wanted = Keys.wanted!(selector, :find)

    Stream.resource(
      fn ->
        # The handles are one member's, of a group.
        hsm = hsm |> HSM.one() |> value!()
        {hsm, {hsm |> HSM.at(__MODULE__.found(hsm, wanted, options)) |> value!(), 0, []}}
      end,
      fn
        {_hsm, {[], 0, [error | _more]}} ->
          raise error

        {hsm, {[], _count, unread}} ->
          {:halt, {:end, hsm, unread}}

        {hsm, {[handle | rest], count, unread}} ->
          answer = HSM.at(hsm, __MODULE__.readable(hsm, handle, options))
          {keys, state} = next(answer, {rest, count, unread})
          {keys, {hsm, state}}
      end,
      &left_out(&1, options)
    )
  end

  # The list that find/3 gives, object by object.
  defp next({:ok, key}, {rest, count, unread}), do: {[key], {rest, count + 1, unread}}
  defp next(:gone, state), do: {[], state}

  defp next({:unreadable, error}, {rest, count, unread}),
    do: {[], {rest, count, [error | unread]}}

  defp next({:error, error}, _state), do: raise(error)

  defp left_out({:end, hsm, unread}, options),
    do: HSM.at(hsm, __MODULE__.unread(hsm, unread, options))

  defp left_out(_halted, _options), do: :ok

  ## The steps of a stream, each where the token is

  def found(hsm, wanted, options) do
    with {:ok, target} <- HSM.target(hsm, options), do: handles(target, wanted, :fresh)
  end

  def readable(hsm, handle, options) do
    with {:ok, target} <- HSM.target(hsm, options), do: Keys.readable(target, handle)
  end

  def unread(hsm, unread, options) do
    with {:ok, target} <- HSM.target(hsm, options), do: Unread.tell(target, unread)
    :ok
  end

  defp value!({:ok, value}), do: value
  defp value!({:error, error}), do: raise(error)

  ## Reading and changing

  def attributes(hsm, selector, names, opts) do
    unless is_proper_list(names), do: raise(ArgumentError, "give a list of attributes to read")
    types = Attribute.types!(names)

    with {:ok, answer} <- on(hsm, selector, :attributes, opts, &{:attributes, &1, types}),
         do: {:ok, Attribute.decode(answer, names)}
  end

  def size(hsm, selector, opts), do: on(hsm, selector, :object_size, opts, &{:object_size, &1})

  def update(hsm, selector, template, opts) do
    template = Attribute.encode!(template)
    result = on(hsm, selector, :set_attributes, opts, &{:set_attributes, &1, template})
    # It has other names now, and may be one of several that have them.
    with {:ok, target} <- HSM.target(hsm), do: Cache.clear(target.cache)
    result
  end

  def destroy(hsm, selector, opts), do: on(hsm, selector, :destroy, opts, &{:destroy, &1})

  def copy(hsm, selector, template, opts) do
    template = Attribute.encode!(template)

    with {:ok, handle} <- on(hsm, selector, :copy, opts, &{:copy, &1, template}),
         {:ok, target} <- HSM.target(hsm, Options.call!(opts, @options)),
         do: Keys.made(target, handle)
  end

  defp on(hsm, selector, operation, opts, op) do
    options = Options.call!(opts, @options)
    wanted = Keys.wanted!(selector, :any)

    with {:ok, target} <- HSM.target(hsm, options),
         do: Keys.run(target, operation, [wanted], fn [handle], nil -> op.(handle) end)
  end

  def certificate(hsm, %Key{class: class} = key, opts)
      when class in [:private_key, :public_key] do
    options = Options.call!(opts, @options)
    with {:ok, target} <- HSM.target(hsm, options), do: Certificate.fetch(target, key)
  end

  def certificate(hsm, selector, opts) do
    options = Options.call!(opts, @options)
    wanted = Keys.wanted!(selector, :certificate)

    with :ok <- Selector.of_class(selector, :certificate),
         {:ok, target} <- HSM.target(hsm, options),
         {:ok, read} <- Keys.attributes(target, wanted, [:class, :value]),
         do: der(read)
  end

  defp der(%{class: :certificate, value: <<_, _::binary>> = der}), do: {:ok, der}

  defp der(%{class: :certificate}),
    do: {:error, Error.new(:unsupported, "the token keeps no value of the certificate")}

  # The value of anything else may be a secret.
  defp der(_other), do: {:error, Error.new(:key_not_found, "what was found is no certificate")}

  def public_key(hsm, selector, opts) do
    options = Options.call!(opts, @options)
    search = PublicKey.search!(selector)

    with {:ok, target} <- HSM.target(hsm, options),
         {:ok, key} <- PublicKey.fetch(target, search),
         do: {:ok, PostQuantum.shown(key)}
  end

  ## Making

  def create(hsm, template, opts) do
    options = Options.call!(opts, @options)
    template = Attribute.encode!(template)

    with {:ok, target} <- HSM.target(hsm, options),
         {:ok, handle} <- Call.run(target, {:create, template}),
         do: Keys.made(target, handle)
  end

  def generate_key(hsm, mechanism, template, opts) do
    options = Options.call!(opts, @options)
    encoded = Mechanism.encode!(mechanism)
    template = mechanism |> KeyTemplate.secret(template) |> Attribute.encode!()

    with {:ok, target} <- target(hsm, options, mechanism) do
      case Mechanism.answer(mechanism) do
        nil ->
          with {:ok, handle} <- Call.run(target, {:generate_key, encoded, template}),
               do: Keys.made(target, handle)

        answer ->
          with {:ok, made} <- Call.run(target, {:generate_beside, encoded, template}),
               do: Beside.result(answer, made, target)
      end
    end
  end

  def generate_key_pair(hsm, mechanism, template, opts) do
    options = Options.call!(opts, @options)
    encoded = Mechanism.encode!(mechanism)
    {public, private} = KeyTemplate.pair(mechanism, template)
    op = {:generate_key_pair, encoded, Attribute.encode!(public), Attribute.encode!(private)}

    with {:ok, target} <- target(hsm, options, mechanism),
         {:ok, {public, private}} <- Call.run(target, op),
         {:ok, public} <- Keys.made(target, public),
         {:ok, private} <- Keys.made(target, private),
         do: {:ok, {public, private}}
  end

  defp target(hsm, options, mechanism) do
    with {:ok, target} <- HSM.target(hsm, options),
         do: {:ok, %{target | mechanism: Mechanism.name_or_code(mechanism)}}
  end
end

defmodule Cryptoki.Transfer.Travel do
  @moduledoc false
  # The ways of a key: out of a token into a text, into a token, and through one. The key that makes the MAC is
  # one of the session, made for one text, and gone when it is done.

  require Cryptoki.HSM

  alias Cryptoki.{Attribute, Error, HSM, Import, Key, Keys, Mechanism, Options, PrivateKey}
  alias Cryptoki.Call
  alias Cryptoki.DER.Reader
  alias Cryptoki.Import.Made
  alias Cryptoki.PublicKey.Given
  alias Cryptoki.Transfer.{Attributes, File, Wrapping}
  alias Cryptoki.X509.Extensions

  @mac [class: :secret_key, key_type: :generic_secret, token: false, private: true, sign: true] ++
         [verify: true]

  # What unwrapped keys are without a word (PKCS #11 v3.2, section 5.18.6), which opencryptoki takes none for.
  @usual [extractable: true, wrap_with_trusted: false]

  @type read :: {File.t(), body :: binary, mac :: binary}
  @type wished :: %{template: keyword, public?: boolean}

  @doc "What is wanted of the imported key; raises `ArgumentError`."
  @spec wished!(keyword) :: wished
  def wished!(own) do
    template = Keyword.get(own, :template, [])
    _ = Attribute.encode!(template)
    template = Enum.to_list(template)
    public? = Keyword.get(own, :public_key, true)
    unless is_boolean(public?), do: raise(ArgumentError, "public_key: must be true or false")

    for {name, _value} <- template, name in ~w[class key_type value ec_params curve modulus]a do
      raise ArgumentError, "template: the key says itself what it is, and its #{inspect(name)}"
    end

    %{template: template, public?: public?}
  end

  ## Out

  @spec out(Cryptoki.hsm(), Cryptoki.key(), Cryptoki.key(), keyword) ::
          {:ok, String.t()} | {:error, Error.t()}
  def out(hsm, selector, wrapping, call),
    do: HSM.at(hsm, __MODULE__.out_here(hsm, selector, wrapping, call))

  @doc "The same on the node of the token."
  def out_here(hsm, selector, wrapping, call) do
    wanted = Keys.wanted!(selector, :sign)

    with {:ok, target} <- target(hsm, call),
         {:ok, kek} <- kek(target, wrapping, :wrap),
         {:ok, handle} <- Keys.resolve(target, wanted, :cached),
         {:ok, key} <- Keys.describe(target, handle),
         :ok <- travels(key),
         {:ok, attributes} <- attributes(target, key),
         {:ok, public} <- public(hsm, target, key, call),
         {:ok, check} <- check_value(hsm, key, call) do
      file = %{class: key.class, key_type: key.key_type, attributes: attributes}
      sealed(target, kek, key, Map.merge(file, %{public_key: public, check_value: check}))
    end
  end

  # What is taken away again has as much time as the call had.
  defp target(hsm, call) do
    options = Options.call!(call, [:timeout, :metadata])

    with {:ok, target} <- HSM.target(hsm, options),
         do: {:ok, %{target | timeout: options.timeout || target.timeout}}
  end

  defp kek(target, selector, verb) do
    wanted = Keys.wanted!(selector, verb)

    with {:ok, handle} <- Keys.resolve(target, wanted, :cached),
         {:ok, key} <- Keys.describe(target, handle) do
      case key do
        %Key{class: :secret_key, key_type: :aes} ->
          {:ok, key}

        other ->
          unsupported("the wrapping key has to be an AES key, and this is #{inspect(other)}")
      end
    end
  end

  defp travels(%Key{class: class, key_type: type} = key) do
    if class in [:private_key, :secret_key] and type in Attributes.types(class),
      do: :ok,
      else: unsupported("#{inspect(key)} is of a type that is not transferred")
  end

  defp attributes(target, %Key{class: class, handle: handle} = key) do
    names = Attributes.names(class)

    with {:ok, read} <- Keys.read(target, handle, names ++ Attributes.limits()) do
      readable = Map.reject(Attribute.readable(read), fn {_name, value} -> value == [] end)
      told = for name <- names, is_map_key(readable, name), do: {name, readable[name]}
      limit = Attributes.limit(read)

      cond do
        limit != nil ->
          unsupported("#{inspect(key)} has #{limit} that is a limit, and does not travel with it")

        not String.valid?(Map.get(readable, :label, "")) ->
          unsupported("the label of #{inspect(key)} is no UTF-8")

        true ->
          {:ok, Attributes.told(told)}
      end
    end
  end

  defp public(_hsm, _target, %Key{class: :secret_key}, _call), do: {:ok, nil}

  # Nothing that it does says to a third whose it is; where it comes in it is proven.
  defp public(_hsm, target, %Key{key_type: :ml_kem, handle: handle} = key, _call) do
    with {:ok, read} <- Keys.read(target, handle, [:public_key_info]) do
      case Attribute.readable(read) do
        %{public_key_info: der} -> {:ok, der}
        _none -> unsupported("the token does not show the public key of #{inspect(key)}")
      end
    end
  end

  defp public(hsm, _target, key, call) do
    with {:ok, public} <- Cryptoki.public_key(hsm, key, call),
         do: {:ok, Extensions.public_key_info(public)}
  end

  defp check_value(_hsm, %Key{class: :private_key}, _call), do: {:ok, nil}

  defp check_value(hsm, key, call) do
    case Cryptoki.check_value(hsm, key, call) do
      {:ok, value} -> {:ok, value}
      {:error, %Error{reason: :unsupported}} -> {:ok, nil}
      {:error, error} -> {:error, error}
    end
  end

  defp sealed(target, kek, key, file) do
    with {:ok, wrapped} <- Wrapping.key(target, kek, key.handle),
         :ok <- no_mac_key(wrapped),
         {:ok, mac_key} <- mac_key(target) do
      Wrapping.for_a_while(target, mac_key, fn ->
        with {:ok, wrapped_mac_key} <- Wrapping.mac_key(target, kek, mac_key, wrapped),
             file = file |> Map.merge(wrapped) |> Map.put(:mac_key, wrapped_mac_key),
             body = File.body(file),
             {:ok, mac} <-
               Call.run(target, {:sign, Mechanism.encode!(:sha256_hmac), mac_key, body, nil}),
             {:ok, _read} <- File.read(File.text(body, mac)),
             do: {:ok, File.text(body, mac)}
      end)
    end
  end

  defp no_mac_key(%{transport_key: nil, wrapped_key: wrapped}) do
    if elem(File.mac_key_size(), 1) == byte_size(wrapped),
      do: unsupported("a secret of 193 to 200 bytes is what only the key of a MAC is"),
      else: :ok
  end

  defp no_mac_key(_by_transport), do: :ok

  defp mac_key(target) do
    {size, _sealed} = File.mac_key_size()
    template = @mac ++ [value_len: size, sensitive: true, extractable: true]
    mechanism = Mechanism.encode!(:generic_secret_key_gen)
    Call.run(target, {:generate_key, mechanism, Attribute.encode!(template)})
  end

  ## Into

  @spec into(Cryptoki.hsm(), read, Cryptoki.key(), wished, keyword) ::
          {:ok, Key.t()} | {:error, Error.t()}
  def into(hsm, read, unwrapping, wished, call),
    do: HSM.at(hsm, __MODULE__.into_here(hsm, read, unwrapping, wished, call))

  @doc "The same on the node of the token."
  def into_here(hsm, {file, _body, _mac} = read, unwrapping, wished, call) do
    with {:ok, target} <- target(hsm, call),
         {:ok, kek} <- kek(target, unwrapping, :unwrap),
         :ok <- authentic(target, kek, read),
         {:ok, made} <- made(target, kek, file, wished.template),
         :ok <- hsm |> proven(target, made, file, wished, call) |> Made.undone(target, made),
         do: {:ok, made.key}
  end

  # Whoever cannot wrap with the wrapping key has made no such key, and no MAC by it.
  defp authentic(target, kek, {file, body, mac}) do
    template = Attribute.encode!(@mac ++ [sensitive: true, extractable: false])

    with {:ok, handle} <- Wrapping.unwrapped_mac_key(target, kek, file, template) do
      Wrapping.for_a_while(target, handle, fn ->
        op = {:verify, Mechanism.encode!(:sha256_hmac), handle, body, mac, nil}

        case Call.run(target, op) do
          :ok ->
            :ok

          {:error, %Error{reason: :signature_invalid} = error} ->
            {:error, %{error | detail: changed()}}

          {:error, error} ->
            {:error, error}
        end
      end)
    end
    |> not_executed()
  end

  defp changed,
    do: "transfer: it is not authentic: somebody has changed it, or it is of two texts"

  defp not_executed({:error, error}), do: {:error, %{error | executed: false}}
  defp not_executed(:ok), do: :ok

  defp made(target, kek, file, wished) do
    attributes =
      Enum.reject(file.attributes, fn {name, _value} -> List.keymember?(wished, name, 0) end)

    told = [class: file.class, key_type: file.key_type] ++ attributes ++ wished

    with {:error, %Error{reason: :attribute_read_only} = error} <-
           made_of(target, kek, file, told) do
      if told -- @usual == told,
        do: {:error, error},
        else: target |> made_of(kek, file, told -- @usual) |> usual(target)
    end
  end

  defp made_of(target, kek, file, told) do
    template = Attribute.encode!(told)

    with {:ok, handle} <- Wrapping.unwrapped_key(target, kek, file, template),
         do: Made.of(target, handle, template)
  end

  defp usual({:ok, made}, target) do
    with {:ok, read} <- Keys.read(target, made.handle, Keyword.keys(@usual)),
         true <- read == Map.new(@usual) || {:error, unusual()} do
      {:ok, made}
    end
    |> Made.undone(target, made)
  end

  defp usual(error, _target), do: error

  defp unusual do
    text =
      "transfer: the token takes no extractable: for a key that it unwraps, and makes it another"

    Error.new(:unsupported, text, executed: false)
  end

  defp proven(hsm, _target, made, %{class: :secret_key, check_value: check}, _wished, call) do
    case check && Cryptoki.check_value(hsm, made.key, call) do
      nil -> :ok
      {:ok, ^check} -> :ok
      {:ok, _another} -> {:error, misbehaved()}
      {:error, %Error{reason: :unsupported}} -> :ok
      {:error, error} -> {:error, %{error | executed: false}}
    end
  end

  defp proven(_hsm, target, made, file, wished, _call) do
    {:ok, given} = Reader.read(file.public_key, "", &Given.read/1)
    kind = Keyword.delete(given.public_attributes, :value)

    key = %PrivateKey{
      type: given.type,
      public: given.public,
      public_attributes: Keyword.put(kind, :key_type, file.key_type),
      attributes: []
    }

    own =
      for {name, value} <- file.attributes ++ wished.template,
          name in [:label, :id, :token],
          do: {name, value}

    own = own |> Enum.reverse() |> Enum.uniq_by(&elem(&1, 0))
    Import.proven(target, made, key, if(wished.public?, do: Import.Template.twin(key, own)))
  end

  defp misbehaved do
    text = "the token took the key, and its check value is not that of this key"
    Error.new(:module_misbehaved, text, executed: false)
  end

  ## Through

  @spec through(Cryptoki.hsm(), read, Cryptoki.key(), Cryptoki.key(), keyword) ::
          {:ok, String.t()} | {:error, Error.t()}
  def through(hsm, read, unwrapping, wrapping, call),
    do: HSM.at(hsm, __MODULE__.through_here(hsm, read, unwrapping, wrapping, call))

  @doc "The same on the node of the token."
  def through_here(hsm, {file, _body, _mac} = read, unwrapping, wrapping, call) do
    with {:ok, target} <- target(hsm, call),
         {:ok, old} <- kek(target, unwrapping, :unwrap),
         {:ok, new} <- kek(target, wrapping, :wrap),
         :ok <- authentic(target, old, read),
         {:ok, made} <- made(target, old, file, token: false, extractable: true),
         do:
           Wrapping.for_a_while(target, made.handle, fn ->
             sealed(target, new, made.key, file)
           end)
  end

  defp unsupported(text), do: {:error, Error.new(:unsupported, "transfer: " <> text)}
end

defmodule Cryptoki.X509.Request do
  @moduledoc false
  # Certification requests (RFC 2986): made, and read with their signature verified. Those of others
  # may be any bytes: a bad one is an error. Pure.

  alias Cryptoki.{DER, Error, PEM, PublicKey, SignatureAlgorithm}
  alias Cryptoki.X509.{Extensions, Name}

  @extension_request {1, 2, 840, 113_549, 1, 9, 14}

  @type t :: %{
          subject: DER.t(),
          text: String.t(),
          public_key: PublicKey.otp_key(),
          public_key_info: DER.t(),
          extensions: map,
          subject_alt_name: list
        }

  @doc "What is signed of a request."
  @spec info(DER.t(), DER.t(), [Extensions.t()]) :: DER.t()
  def info(subject, public_key_info, extensions) do
    attributes =
      if extensions == [],
        do: [],
        else: [
          DER.sequence([
            DER.oid(@extension_request),
            DER.set_of([Extensions.encode(extensions)])
          ])
        ]

    DER.sequence([DER.integer(0), subject, public_key_info, DER.set_of(attributes, 0xA0)])
  end

  @doc "Reads a request in DER or PEM and verifies its signature."
  @spec read(binary) :: {:ok, t} | {:error, Error.t()}
  def read(bytes) do
    with {:ok, der} <- der(bytes),
         {:ok, [{0x30, request, _}]} <- DER.split(der),
         {:ok, [{0x30, info, signed}, {0x30, _, algorithm}, {3, <<0, signature::binary>>, _}]} <-
           DER.split(request),
         {:ok, [{2, <<0>>, _}, {0x30, name, subject}, {0x30, _, key_info} | attributes]} <-
           DER.split(info),
         {:ok, text} <- Name.text(name),
         {:ok, public_key} <- PublicKey.decode(%{public_key_info: key_info}),
         {:ok, extensions} <- extensions(attributes),
         {:ok, alt_names} <- Extensions.Read.alt_names(extensions) do
      request = %{
        subject: subject,
        text: text,
        public_key: public_key,
        public_key_info: key_info,
        extensions: extensions,
        subject_alt_name: alt_names
      }

      with :ok <- verify(public_key, algorithm, signed, signature), do: {:ok, request}
    else
      _no_request -> {:error, Error.new(:invalid_argument, "this is no certification request")}
    end
  end

  defp der(bytes) do
    if PEM.text?(bytes) do
      with {:ok, [der | _]} <- PEM.decode(bytes, :CertificationRequest), do: {:ok, der}
    else
      {:ok, bytes}
    end
  end

  defp extensions([]), do: {:ok, %{}}

  defp extensions([{0xA0, attributes, _} | _]) do
    wanted = DER.oid(@extension_request)

    with {:ok, attributes} <- DER.split(attributes) do
      Enum.find_value(attributes, {:ok, %{}}, fn {_tag, attribute, _} ->
        case DER.split(attribute) do
          {:ok, [{6, _, ^wanted}, {0x31, values, _}]} -> requested(values)
          {:ok, _another} -> nil
          :error -> :error
        end
      end)
    end
  end

  defp extensions(_other), do: :error

  defp requested(values) do
    with {:ok, [{0x30, extensions, _}]} <- DER.split(values),
         do: Extensions.Read.read(extensions),
         else: (_none -> :error)
  end

  # The algorithm is one of those that such a key could sign with here; salts have any length.
  defp verify(public_key, identifier, data, signature) do
    {wanted, salt} = without_salt(identifier)

    known =
      for hash <- SignatureAlgorithm.hashes(),
          padding <- [:pkcs1, :pss],
          {:ok, known} <- [SignatureAlgorithm.choose(public_key, hash: hash, padding: padding)],
          elem(without_salt(known.identifier), 0) == wanted,
          do: {known.hash, padding}

    case known do
      [{hash, padding} | _] ->
        if verified?(public_key, hash, {padding, salt}, data, signature),
          do: :ok,
          else:
            {:error, Error.new(:signature_invalid, "the request is not signed by its own key")}

      [] ->
        text = "the request is signed with an algorithm that is not known here"
        {:error, Error.new(:unsupported, text)}
    end
  end

  @salt 0xA2

  # The parts of an identifier, and of PSS how long the salt is (RFC 4055, section 3.1).
  defp without_salt(identifier) do
    with {:ok, [{0x30, contents, _}]} <- DER.split(identifier),
         {:ok, [{6, oid, _}, {0x30, parameters, _}]} <- DER.split(contents),
         {:ok, parameters} <- DER.split(parameters),
         {@salt, salt, _} <- List.keyfind(parameters, @salt, 0),
         {:ok, [{2, salt, _}]} <- DER.split(salt) do
      {{oid, List.keydelete(parameters, @salt, 0)}, :binary.decode_unsigned(salt)}
    else
      _another -> {identifier, nil}
    end
  end

  defp verified?(key, hash, {padding, salt}, data, signature) do
    pss = [rsa_padding: :rsa_pkcs1_pss_padding, rsa_pss_saltlen: salt]
    pss? = padding == :pss and elem(key, 0) == :RSAPublicKey
    :public_key.verify(data, hash || :none, signature, key, if(pss?, do: pss, else: []))
  rescue
    # A point that is on no curve, and the like.
    _no_key -> false
  end
end

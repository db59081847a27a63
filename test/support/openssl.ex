defmodule Cryptoki.Test.OpenSSL do
  @moduledoc false
  # The referee: what OpenSSL's command says about a signature, without any of our code.

  alias Cryptoki.Test.Scratch

  @doc """
  Whether OpenSSL accepts `signature` over `data` under `public_key`, an Erlang public key as
  Cryptoki.public_key/2 gives it or a PEM.

  Schemes: `{:rsa_pkcs1, hash}`, `{:rsa_pss, hash}`, `{:rsa_pss, hash, salt_length}`, `{:ecdsa, hash}` (the signature is r‖s),
  `{:ecdsa_der, hash}`, `:eddsa`.
  """
  @spec valid?(term, binary, tuple | :eddsa, iodata) :: boolean
  def valid?(public_key, signature, scheme, data) do
    Scratch.within("openssl", fn directory ->
      key = Scratch.write(directory, "key.pem", pem(public_key))
      file = Scratch.write(directory, "data", data)
      sig = Scratch.write(directory, "signature", signature_bytes(scheme, signature))

      case openssl(arguments(scheme, key, sig, file)) do
        {_, 0} -> true
        {text, _} -> refused!(text)
      end
    end)
  end

  # "no" is an answer; a key or a command that OpenSSL cannot read is a mistake of the test.
  defp refused!(text) do
    if text =~ ~r/Verification failure|Signature Verification Failure/i,
      do: false,
      else: raise("openssl could not judge: #{text}")
  end

  @doc "Encrypts with OpenSSL for a key in the token: `:rsa_pkcs1` or `{:rsa_oaep, hash}`."
  @spec encrypt(term, :rsa_pkcs1 | {:rsa_oaep, atom}, iodata) :: binary
  def encrypt(public_key, scheme, data) do
    padding =
      case scheme do
        :rsa_pkcs1 -> ~w(-pkeyopt rsa_padding_mode:pkcs1)
        {:rsa_oaep, hash} -> ~w(-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:#{hash})
      end

    Scratch.within("openssl", fn directory ->
      key = Scratch.write(directory, "key.pem", pem(public_key))
      file = Scratch.write(directory, "data", data)
      out = Path.join(directory, "out")
      command = ~w(pkeyutl -encrypt -pubin -inkey #{key} -in #{file} -out #{out}) ++ padding
      {"", 0} = openssl(command)
      File.read!(out)
    end)
  end

  @doc """
  The content of signed data that OpenSSL takes for signed by somebody whom the authority in a file
  vouches for, or `:refused`. With `-cades` among the arguments the certificate in it counts as well.
  """
  @spec cms(binary, Path.t(), [String.t()]) :: binary | :refused
  def cms(der, authority, arguments \\ []) do
    Scratch.within("openssl", fn directory ->
      file = Scratch.write(directory, "signed", der)
      out = Path.join(directory, "out")
      command = ~w(cms -verify -inform DER -binary -in #{file} -CAfile #{authority})

      case openssl(command ++ ~w(-purpose any -out #{out}) ++ arguments) do
        {"C" <> _cms_or_cades, 0} -> File.read!(out)
        {_text, 4} -> :refused
      end
    end)
  end

  @doc "Runs `openssl` with these arguments: `{output, status}`."
  @spec openssl([binary]) :: {binary, non_neg_integer}
  def openssl(arguments), do: System.cmd("openssl", arguments, stderr_to_stdout: true)

  @doc "A public key of `:public_key` as PEM (SubjectPublicKeyInfo)."
  @spec pem(term) :: binary
  def pem("-----BEGIN" <> _ = pem), do: pem

  def pem(public_key) do
    entry = :public_key.pem_entry_encode(:SubjectPublicKeyInfo, public_key)
    :public_key.pem_encode([entry])
  end

  @doc "r‖s, as PKCS #11 gives an ECDSA signature, as the DER that OpenSSL wants."
  @spec ecdsa_der(binary) :: binary
  def ecdsa_der(signature) do
    {r, s} = :erlang.split_binary(signature, div(byte_size(signature), 2))
    numbers = {:"ECDSA-Sig-Value", :binary.decode_unsigned(r), :binary.decode_unsigned(s)}
    :public_key.der_encode(:"ECDSA-Sig-Value", numbers)
  end

  defp signature_bytes({:ecdsa, _}, signature), do: ecdsa_der(signature)
  defp signature_bytes(_, signature), do: signature

  defp arguments(:eddsa, key, sig, file),
    do: ~w(pkeyutl -verify -pubin -inkey #{key} -rawin -in #{file} -sigfile #{sig})

  defp arguments({:rsa_pss, hash}, key, sig, file),
    do: arguments({:rsa_pss, hash, "digest"}, key, sig, file)

  defp arguments({:rsa_pss, hash, salt}, key, sig, file) do
    options = ~w(-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:#{salt})
    ~w(dgst -#{digest(hash)} -verify #{key} -signature #{sig}) ++ options ++ [file]
  end

  defp arguments({_rsa_pkcs1_or_ecdsa, hash}, key, sig, file),
    do: ~w(dgst -#{digest(hash)} -verify #{key} -signature #{sig} #{file})

  # :sha3_256 is sha3-256 to OpenSSL.
  defp digest(hash), do: hash |> to_string() |> String.replace("_", "-")
end

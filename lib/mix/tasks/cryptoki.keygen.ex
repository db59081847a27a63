defmodule Mix.Tasks.Cryptoki.Keygen do
  use Mix.Cryptoki,
    usage:
      "URI --type NAME [--curve NAME] [--bits N] [--set NAME] [--for USES] [--attribute NAME=VALUE]... " <>
        "[--pem] [--out FILE] [options]",
    switches: [
      type: :string,
      curve: :string,
      bits: :integer,
      set: :string,
      for: :string,
      attribute: :keep,
      pem: :boolean,
      out: :string
    ]

  alias Cryptoki.Error
  alias Mix.Cryptoki.{Files, Place, PublicKeys, Words}

  # name => {function, mechanism, what the template has, the option that changes it}
  @types [
    ec: {:pair, :ec_key_pair_gen, [curve: :secp256r1], :curve},
    rsa: {:pair, :rsa_pkcs_key_pair_gen, [modulus_bits: 3072], :bits},
    ed25519: {:pair, :ec_edwards_key_pair_gen, [curve: :ed25519], nil},
    ed448: {:pair, :ec_edwards_key_pair_gen, [curve: :ed448], nil},
    x25519: {:pair, :ec_montgomery_key_pair_gen, [curve: :x25519], nil},
    x448: {:pair, :ec_montgomery_key_pair_gen, [curve: :x448], nil},
    ml_dsa: {:pair, :ml_dsa_key_pair_gen, [parameter_set: :ml_dsa_65], :set},
    ml_kem: {:pair, :ml_kem_key_pair_gen, [parameter_set: :ml_kem_768], :set},
    aes: {:secret, :aes_key_gen, [value_len: 32], :bits},
    hmac: {:secret, :generic_secret_key_gen, [value_len: 32], :bits}
  ]

  @shortdoc "Generates a key or a key pair in a token"

  @moduledoc """
  Generates a key that never leaves its token, and prints the PKCS #11 URIs of what was made.

      $ mix cryptoki.keygen "pkcs11:token=payments;object=invoice;id=%01" --type ec
      $ mix cryptoki.keygen "pkcs11:token=payments;object=www" --type ec --pem > www.pub
      $ mix cryptoki.keygen "pkcs11:token=payments;object=backup" --type rsa --bits 4096 --for decrypt,encrypt
      $ mix cryptoki.keygen "pkcs11:token=payments;object=archive" --type aes --bits 256

  The URI says on which token, with which label (`object`) and which `id`. If the token has a key of
  that name already, nothing is made.

    * `--type NAME`, `-t`: #{Enum.map_join(@types, ", ", fn {name, _row} -> "`#{name}`" end)}
    * `--curve NAME`, `-c`: for `ec`, `secp256r1` when not given
    * `--bits N`, `-b`: for `rsa` (3072), `aes` and `hmac` (256)
    * `--set NAME`, `-s`: the parameter set, for `ml_dsa` (`ml_dsa_65`) and `ml_kem` (`ml_kem_768`)
    * #{Words.uses_docs()}; without it
      as `Cryptoki.generate_key_pair/4` and `Cryptoki.generate_key/4` say
    * `--attribute NAME=VALUE`, `-a`: one more attribute, such as `extractable=true`, as often as wanted
    * `--pem`, `-p`: prints the public key as PEM in place of the URIs
    * `--out FILE`, `-o`: writes the public key as PEM into a file

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    {uri, selector} = Place.key!(arguments, options)
    {function, mechanism, template} = key!(options)
    named = Keyword.delete(selector, :class)
    own = [token: true] ++ named ++ template ++ Words.uses!(options)
    template = Keyword.merge(own, Words.template!(options, :attribute))

    Place.logged_in(uri, options, fn hsm ->
      with :ok <- Place.free(hsm, named),
           {:ok, keys} <- generate(function, hsm, mechanism, template),
           do: tell(hsm, keys, options)
    end)
  end

  defp key!(options) do
    type = options[:type] || raise ArgumentError, "--type is missing"

    case @types[Words.name(type)] do
      nil ->
        raise ArgumentError, "--type #{type} is none of #{Enum.join(Keyword.keys(@types), ", ")}"

      {function, mechanism, template, option} ->
        if function == :secret and (options[:pem] || options[:out]),
          do: raise(ArgumentError, "--pem and --out are for the public key: #{type} has none")

        {function, mechanism, size!(template, option, options)}
    end
  end

  # One size or name is all that differs between keys of a type.
  defp size!([{attribute, usual}], option, options) do
    for other <- [:curve, :bits, :set] -- [option], options[other] do
      raise ArgumentError, "--#{other} is not for --type #{options[:type]}"
    end

    case option && options[option] do
      nil -> [{attribute, usual}]
      bits when attribute == :value_len and rem(bits, 8) == 0 -> [value_len: div(bits, 8)]
      bits when is_integer(bits) and attribute == :modulus_bits -> [modulus_bits: bits]
      "" <> name -> [{attribute, Words.name(name)}]
      bits -> raise ArgumentError, "--bits #{bits} is not a multiple of 8"
    end
  end

  defp generate(:secret, hsm, mechanism, template) do
    with {:ok, key} <- generating(fn -> Cryptoki.generate_key(hsm, mechanism, template) end),
         do: {:ok, [key]}
  end

  defp generate(:pair, hsm, mechanism, template) do
    pair = fn -> Cryptoki.generate_key_pair(hsm, mechanism, template) end
    with {:ok, {public, private}} <- generating(pair), do: {:ok, [private, public]}
  end

  defp generating(fun), do: Files.progress("generating the key", fn _count -> fun.() end)

  # The URIs first: whatever becomes of the file, the keys are there.
  defp tell(hsm, keys, options) do
    unless options[:pem], do: Enum.each(keys, &Place.print_uri/1)

    if options[:pem] || options[:out] do
      with {:ok, pem} <- pem(hsm, List.last(keys)) do
        if options[:pem], do: Files.output(pem, [])
        if options[:out], do: Files.output(pem, options), else: :ok
      end
    end
  end

  defp pem(hsm, public) do
    with {:error, error} <- PublicKeys.pem(hsm, public),
         do: {:error, Error.new(error.reason, "the key was made: " <> Exception.message(error))}
  end
end

defmodule Mix.Cryptoki.Templates do
  @moduledoc false
  # Templates of keys whose bytes come from outside, by the type that the command names.

  alias Mix.Cryptoki.Words

  # name => {class, key type, what such keys are usually for}
  @types [
    aes: {:secret_key, :aes, [encrypt: true, decrypt: true]},
    hmac: {:secret_key, :generic_secret, [sign: true, verify: true]},
    rsa: {:private_key, :rsa, [sign: true]},
    ec: {:private_key, :ec, [sign: true]},
    ed25519: {:private_key, :ec_edwards, [sign: true]},
    x25519: {:private_key, :ec_montgomery, [derive: true]}
  ]

  @doc "The types, for documentation."
  @spec docs() :: String.t()
  def docs, do: Enum.map_join(@types, ", ", fn {name, _row} -> "`#{name}`" end)

  @doc "The template of `--type`, `--for` and `--attribute` with these names. Raises `ArgumentError`."
  @spec key!(keyword, keyword) :: keyword
  def key!(named, options) do
    type = options[:type] || raise ArgumentError, "--type is missing"

    {class, key_type, usual} =
      @types[Words.name(type)] ||
        raise ArgumentError, "--type #{type} is none of #{Enum.join(Keyword.keys(@types), ", ")}"

    [
      class: class,
      key_type: key_type,
      token: true,
      private: true,
      sensitive: true,
      extractable: false
    ]
    |> Keyword.merge(named)
    |> Keyword.merge(uses(options, usual, class))
    |> Keyword.merge(Words.template!(options, :attribute))
  end

  # A private key does not verify, encrypt or wrap: tokens refuse these attributes for it.
  defp uses(options, usual, class) do
    case Words.uses!(options) do
      [] -> usual
      uses when class == :private_key -> Keyword.take(uses, [:sign, :decrypt, :unwrap, :derive])
      uses -> uses
    end
  end
end

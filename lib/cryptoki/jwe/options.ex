defmodule Cryptoki.JWE.Options do
  @moduledoc false
  # The options of `Cryptoki.JWE`, as tables. Pure.

  alias Cryptoki.JWE.{Encryption, Message}
  alias Cryptoki.{JWS, Options.Table}

  @doc "Of `decrypt/4`."
  @spec decrypt() :: Table.t()
  def decrypt do
    expected = [
      cast: &JWS.Options.strings/1,
      must: "a string, or a list of these",
      type: "String.t() | [String.t(), ...]"
    ]

    [
      alg:
        expected ++
          [
            doc:
              "the algorithm of the key that is expected, or a list of them. The key allows only those of its kind anyway"
          ],
      enc: expected ++ [doc: "the same of the content"],
      crit: [
        cast: &JWS.Options.extensions(&1, Message.registered()),
        must: "names of extensions, none that RFC 7516 defines itself",
        type: "String.t() | [String.t()]",
        default: [],
        doc: "extensions that the caller understands and looks at"
      ]
    ]
  end

  @doc "Of `encrypt/3`."
  @spec encrypt() :: Table.t()
  def encrypt do
    [
      alg: [
        cast: :line,
        must: "a string such as \"RSA-OAEP-256\"",
        type: "String.t()",
        doc:
          "`RSA-OAEP` or `RSA-OAEP-256` for RSA keys, `ECDH-ES` or `ECDH-ES+A128KW` to `ECDH-ES+A256KW` for those on " <>
            "curves. Default: `RSA-OAEP-256`, `ECDH-ES+A256KW`"
      ],
      enc: [
        cast: {:one_of, Encryption.names()},
        must: "one of " <> Enum.map_join(Encryption.names(), ", ", &inspect/1),
        type: "String.t()",
        default: "A256GCM",
        doc: "what encrypts the content: " <> Enum.map_join(Encryption.names(), ", ", &"`#{&1}`")
      ],
      header: [
        cast: fn header -> JWS.Options.header(header, &wrong/2) end,
        must: "a map",
        type: "map",
        default: %{},
        doc: "further members of the header, such as `kid`, `typ`, `cty`"
      ]
    ]
  end

  @ours ~w[alg enc epk zip crit iv tag]

  defp wrong(header, _text) do
    if name = Enum.find(@ours, &is_map_key(header, &1)),
      do: "#{name} is set here, or is not here"
  end
end

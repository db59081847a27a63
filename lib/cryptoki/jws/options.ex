defmodule Cryptoki.JWS.Options do
  @moduledoc false
  # The options of `Cryptoki.JWS`, as tables. Pure.

  alias Cryptoki.{Chunks, JSON, Options.Table}

  # RFC 7515, section 4.1: what `crit` must not list.
  @registered ~w[alg jku jwk kid x5u x5c x5t x5t#S256 typ cty crit]

  @doc "Of `sign/4`."
  @spec sign() :: Table.t()
  def sign do
    [
      alg: [
        cast: :line,
        must: "a string such as \"ES256\"",
        type: "String.t()",
        doc:
          "the algorithm. Keys on curves have one of their own (P-256 `ES256`, Ed25519 `EdDSA` ...); for " <>
            "RSA and secret keys it must be given"
      ],
      header: [
        cast: fn header -> header(header, &wrong/2) end,
        must: "a map",
        type: "map",
        default: %{},
        doc:
          "further members of the protected header, each name once. `alg` and `b64` are set from the options"
      ],
      detached: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: false,
        doc: "whether the payload is left out of the answer (RFC 7515, appendix F)"
      ],
      b64: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: true,
        doc:
          "`false` signs the payload as it is (RFC 7797); the header gets `b64` and `crit`. Unless it is " <>
            "detached it must be printable ASCII without a dot"
      ]
    ]
  end

  @doc "Of `verify/4`."
  @spec verify() :: Table.t()
  def verify do
    [
      alg: [
        cast: &strings/1,
        must: "a string, or a list of these",
        type: "String.t() | [String.t(), ...]",
        doc:
          "the algorithm that is expected, or a list of them. The key allows only those of its kind anyway, " <>
            "so that a public key is never taken for a secret; say it for RSA keys, which allow six"
      ],
      payload: [
        cast: &payload/1,
        must: "iodata or {:stream, enumerable}",
        secret: true,
        type: "iodata | {:stream, Enumerable.t()}",
        doc:
          "the payload of a detached JWS, iodata or, when it is unencoded, `{:stream, enumerable}`"
      ],
      crit: [
        cast: &extensions/1,
        must: "names of extensions, none that RFC 7515 defines itself",
        type: "String.t() | [String.t()]",
        default: [],
        doc: "extensions that the caller understands and looks at, besides `b64`"
      ]
    ]
  end

  @doc """
  Whether a `crit` is one that RFC 7515 (section 4.1.11) allows in this header. Names that are registered are none of
  extensions; JWE has more of them.
  """
  @spec critical?(term, map, [String.t()]) :: boolean
  def critical?(crit, header, registered \\ @registered) do
    strings?(crit) and crit != [] and Enum.uniq(crit) == crit and
      Enum.all?(crit, &(is_map_key(header, &1) and &1 not in registered))
  end

  @doc """
  A header as JSON has it, unless `wrong` has a sentence about it and its text: that it can be written is known before a
  key is asked for.
  """
  @spec header(term, (map, String.t() -> String.t() | nil)) :: Table.casted()
  def header(header, wrong) when is_map(header) and not is_struct(header) do
    text = JSON.encode!(header)
    header = Map.new(header, fn {name, value} -> {to_string(name), value} end)
    if sentence = wrong.(header, text), do: {:error, sentence}, else: {:ok, header}
  rescue
    error in ArgumentError -> {:error, String.replace_prefix(error.message, "JSON: ", "")}
  end

  def header(_other, _wrong), do: false

  defp wrong(header, text) do
    cond do
      is_map_key(header, "alg") -> "alg is set by the option alg:"
      is_map_key(header, "b64") -> "b64 is set by the option b64:"
      wrong_crit?(header) -> "crit lists extensions that are in the header"
      byte_size(text) > most() -> "has more than #{most()} bytes"
      true -> nil
    end
  end

  defp wrong_crit?(header),
    do: is_map_key(header, "crit") and not critical?(header["crit"], header)

  @doc "The most bytes of a header: chains of certificates fit, and no more is read of strangers."
  @spec most() :: pos_integer
  def most, do: 48 * 1024

  @doc "A string or a list of these, at least one."
  @spec strings(term) :: Table.casted()
  def strings(text) when is_binary(text), do: {:ok, [text]}
  def strings(texts), do: texts != [] and strings?(texts) and {:ok, texts}

  @doc "Names of extensions, one or a list."
  @spec extensions(term, [String.t()]) :: Table.casted()
  def extensions(names, registered \\ @registered)
  def extensions(name, registered) when is_binary(name), do: extensions([name], registered)

  def extensions(names, registered),
    do: strings?(names) and Enum.all?(names, &(&1 not in registered)) and {:ok, names}

  defp payload({:stream, chunks} = payload),
    do: Chunks.enumerable?(chunks) and {:ok, payload}

  defp payload(payload), do: Table.cast(:iodata, payload)

  # An improper list is none.
  defp strings?([text | rest]) when is_binary(text), do: strings?(rest)
  defp strings?(rest), do: rest == []
end

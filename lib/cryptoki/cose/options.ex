defmodule Cryptoki.COSE.Options do
  @moduledoc false
  # The options of `Cryptoki.COSE`, as tables. Pure.

  alias Cryptoki.CBOR
  alias Cryptoki.COSE.{Algorithm, Header}
  alias Cryptoki.Options.Table

  @most 48 * 1024

  @external_aad [
    cast: :iodata,
    must: "iodata",
    type: "iodata",
    default: "",
    doc: "what is signed with it and travels by other ways (section 4.3)"
  ]

  @doc "Of `sign1/4`."
  @spec sign1() :: Table.t()
  def sign1 do
    [
      alg: [
        cast: &algorithm/1,
        must: "a string such as \"ES256\"",
        type: "String.t()",
        doc:
          "the algorithm. Keys on curves and of ML-DSA have one of their own; for RSA keys it must be given"
      ],
      protected: [
        cast: &header(&1, [1]),
        must: "a map",
        type: "map",
        default: %{},
        doc: "further parameters that are signed. `alg` (1) is set by the option"
      ],
      unprotected: [
        cast: &header(&1, [1, 2]),
        must: "a map",
        type: "map",
        default: %{},
        doc: "parameters that are not signed, such as the identifier of the key (4)"
      ],
      external_aad: @external_aad,
      detached: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: false,
        doc: "whether the payload is left out of the answer (section 4.1)"
      ],
      tagged: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: true,
        doc: "whether the message has its tag (18) before it"
      ]
    ]
  end

  @doc "Of `verify1/4`."
  @spec verify1() :: Table.t()
  def verify1 do
    [
      alg: [
        cast: &algorithms/1,
        must: "a string such as \"ES256\", or a list of these",
        type: "String.t() | [String.t(), ...]",
        doc:
          "the algorithm that is expected, or a list of them. A single one is also that of a message whose " <>
            "protected header has none"
      ],
      payload: [
        cast: :iodata,
        must: "iodata",
        secret: true,
        type: "iodata",
        doc: "the payload of a detached message"
      ],
      external_aad: @external_aad,
      crit: [
        cast: &labels/1,
        must: "a label, or a list of these: integers and strings",
        type: "label | [label]",
        default: [],
        doc: "parameters that the caller understands and looks at, besides 1 to 4"
      ]
    ]
  end

  @doc "The most bytes of a protected header: chains of certificates fit, and no more is read of strangers."
  @spec most() :: pos_integer
  def most, do: @most

  defp algorithm(name) when is_binary(name) do
    if name in Algorithm.names(),
      do: {:ok, name},
      else: {:error, "there is no algorithm #{Algorithm.quoted(name)} here"}
  end

  defp algorithm(_other), do: false

  defp algorithms(name) when is_binary(name), do: algorithms([name])

  defp algorithms([_ | _] = names) do
    not List.improper?(names) and Enum.all?(names, &match?({:ok, _}, algorithm(&1))) and
      {:ok, names}
  end

  defp algorithms(_other), do: false

  # That it can be written is known before a key is asked for.
  defp header(header, taken) when is_map(header) and not is_struct(header) do
    labels = Map.keys(header)
    bytes = if Enum.all?(labels, &label?/1), do: CBOR.encode!(Header.write(header)), else: ""

    cond do
      bytes == "" -> {:error, "has labels that are integers or strings"}
      label = Enum.find(labels, &(&1 in taken)) -> {:error, taken(label)}
      not Header.critical?(header) -> {:error, "crit (2) lists parameters that are in it"}
      byte_size(bytes) > @most -> {:error, "has more than #{@most} bytes"}
      true -> {:ok, header}
    end
  rescue
    error in ArgumentError -> {:error, String.replace_prefix(error.message, "CBOR: ", "")}
  end

  defp header(_other, _taken), do: false

  defp taken(1), do: "alg (1) is set by the option alg:"
  defp taken(2), do: "crit (2) is for protected:"

  defp labels(label) when is_integer(label) or is_binary(label), do: labels([label])

  defp labels(labels) when is_list(labels),
    do: not List.improper?(labels) and Enum.all?(labels, &label?/1) and {:ok, labels}

  defp labels(_other), do: false

  defp label?(label), do: is_integer(label) or (is_binary(label) and String.valid?(label))
end

defmodule Cryptoki.Timestamp.Options do
  @moduledoc false
  # The options of `Cryptoki.Timestamp`, as tables. Pure.

  alias Cryptoki.{DER, Options.Table, SignatureAlgorithm}
  alias Cryptoki.Timestamp.Request

  @policy [
    cast: &__MODULE__.policy/1,
    must: "an object identifier, such as {1, 3, 6, 1, 4, 1, 99999, 1}",
    type: "tuple"
  ]

  @doc "Of `request/2`."
  @spec request() :: Table.t()
  def request do
    [
      hash: [
        cast: {:one_of, Request.hashes()},
        must: "one of #{Enum.map_join(Request.hashes(), ", ", &inspect/1)}",
        type: Enum.map_join(Request.hashes(), " | ", &inspect/1),
        default: :sha256,
        doc: "of the data, which itself is not sent"
      ],
      policy: [{:doc, "the policy to stamp by, an object identifier"} | @policy],
      nonce: [
        cast: &((is_boolean(&1) or is_integer(&1)) and {:ok, &1}),
        must: "true, false or a number",
        type: "boolean | integer",
        default: true,
        doc: "a number by chance that has to be in the answer, or one that is given"
      ],
      certificates: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: true,
        doc: "whether those of the authority come along"
      ]
    ]
  end

  @doc "Of `respond/5`."
  @spec respond() :: Table.t()
  def respond do
    [
      policy: [
        {:needed, true},
        {:doc, "the one that is stamped by, an object identifier"} | @policy
      ],
      policies: [
        cast: &(is_list(&1) and Enum.all?(&1, fn oid -> DER.oid?(oid) end) and {:ok, &1}),
        must: "a list of object identifiers",
        type: "[tuple]",
        default: [],
        doc: "others, for who asks for them"
      ],
      serial: [
        cast: &(is_integer(&1) and &1 > 0 and byte_size(DER.integer(&1)) <= 22 and {:ok, &1}),
        must: "a positive number of at most 20 bytes",
        type: "pos_integer",
        doc: "of the stamp, another one for each. Default: 16 bytes by chance"
      ],
      accuracy: [
        cast: &accuracy/1,
        must: "such as [seconds: 1, millis: 500, micros: 250], the last two up to 999",
        type: "[seconds: pos_integer, millis: 1..999, micros: 1..999]",
        doc: "how far the time may be off, to both sides"
      ],
      ordering: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: false,
        doc:
          "says that of two stamps the later has the later time, whatever the accuracy: that is for you to know"
      ],
      tsa: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: false,
        doc: "whether the subject of the certificate is in it as the name of the authority"
      ],
      time: [
        cast: :datetime,
        must: "a DateTime",
        type: "DateTime.t()",
        doc: "when it is. Default: the clock of this computer, whole seconds"
      ]
    ] ++ SignatureAlgorithm.options()
  end

  @doc "Of `verify/3`."
  @spec verify() :: Table.t()
  def verify do
    [
      trusted: [
        cast: :any,
        needed: true,
        must: "the certificates that are trusted",
        type: "binary | [binary]",
        doc:
          "certificates, DER or PEM: the stamp is signed with one of them, or with one that they lead to"
      ],
      certificates: [
        cast: :any,
        type: "binary | [binary]",
        default: [],
        doc: "further ones, DER or PEM, for what does not come along"
      ]
    ]
  end

  @doc false
  @spec policy(term) :: Table.casted()
  def policy(oid), do: DER.oid?(oid) and {:ok, oid}

  @small 1..999
  defp accuracy(parts) do
    with true <- Keyword.keyword?(parts) and parts != [],
         [] <- Keyword.keys(parts) -- [:seconds, :millis, :micros],
         true <- Enum.all?(parts, &fits?/1),
         do: {:ok, parts},
         else: (_no -> false)
  end

  defp fits?({:seconds, n}), do: is_integer(n) and n >= 0
  defp fits?({_small, n}), do: is_integer(n) and (n in @small or n == 0)
end

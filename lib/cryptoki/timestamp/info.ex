defmodule Cryptoki.Timestamp.Info do
  @moduledoc false
  # What is signed of a time stamp (RFC 3161, section 2.4.2): made, and read of others. Pure.

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.Timestamp.Request
  alias Cryptoki.X509.{AltName, Extensions}

  @type accuracy :: %{
          seconds: non_neg_integer,
          millis: non_neg_integer,
          micros: non_neg_integer
        }
  @type t :: %{
          hash: atom | DER.oid(),
          digest: binary,
          imprint: DER.t(),
          policy: DER.oid(),
          serial: integer,
          time: DateTime.t(),
          accuracy: accuracy | nil,
          ordering: boolean,
          nonce: integer | nil,
          tsa: Reader.t() | nil,
          tsa_shown: AltName.t() | nil
        }

  @doc "`TSTInfo`; `tsa` is a `GeneralName`."
  @spec encode(map) :: DER.t()
  def encode(info) do
    DER.sequence(
      [
        DER.integer(1),
        DER.oid(info.policy),
        info.imprint,
        DER.integer(info.serial),
        DER.generalized_time(info.time)
      ] ++
        accuracy(info.accuracy) ++
        if(info.ordering, do: [DER.boolean(true)], else: []) ++
        for(nonce <- [info.nonce], nonce, do: DER.integer(nonce)) ++
        for(tsa <- [info.tsa], tsa, do: DER.explicit(0, tsa))
    )
  end

  # Parts that are zero are left out.
  defp accuracy(nil), do: []

  defp accuracy(parts) do
    all =
      for {name, tag} <- [seconds: 2, millis: 0x80, micros: 0x81],
          number = parts[name],
          number != 0,
          do: with(<<2, rest::binary>> <- DER.integer(number), do: <<tag, rest::binary>>)

    [DER.sequence(all)]
  end

  @doc "Reads one."
  @spec read(Reader.t()) :: t
  def read(info) do
    [version, policy, imprint, serial, time, accuracy, ordering, nonce, tsa, extensions] =
      Reader.fields(Reader.is!(info, 0x30), [
        {"version", 2},
        {"policy", 6},
        {"imprint", 0x30},
        {"serial number", 2},
        {"time", 24},
        {:maybe, "accuracy", 0x30},
        {:maybe, 1},
        {:maybe, "nonce", 2},
        {:maybe, "authority", 0xA0},
        {:maybe, "extensions", 0xA1}
      ])

    if Reader.integer(version) != 1,
      do: Reader.wrong!(version, "it is of a version that is not known", :unsupported)

    if extensions, do: known!(Extensions.Read.list(%{extensions | tag: 0x30}))

    Map.merge(Request.imprint(imprint), %{
      policy: Reader.oid(policy),
      serial: Reader.integer(serial, 64),
      time: time(time),
      accuracy: accuracy && read_accuracy(accuracy),
      ordering: ordering != nil and Reader.boolean(ordering),
      nonce: nonce && Reader.integer(nonce, 64),
      tsa: tsa && Reader.only(tsa),
      tsa_shown: tsa && AltName.one(Reader.only(tsa))
    })
  end

  defp known!(list) do
    for {_oid, true, value} <- list,
        do: Reader.wrong!(value, "it is critical, and not known here")
  end

  # With parts of a second, of which the first six digits count.
  defp time(%{contents: contents} = value) do
    with [_all, whole | parts] <- Regex.run(~r/\A(\d{14})(?:\.(\d*[1-9]))?Z\z/, contents),
         {:ok, time} <- DER.read_time(24, whole <> "Z") do
      micros(time, parts)
    else
      _none -> Reader.wrong!(value, "it is no time as DER has them")
    end
  end

  defp micros(time, []), do: time

  defp micros(time, [parts]) do
    micros = parts |> String.pad_trailing(6, "0") |> binary_part(0, 6) |> String.to_integer()
    %{time | microsecond: {micros, 6}}
  end

  defp read_accuracy(accuracy) do
    [seconds, millis, micros] =
      Reader.fields(accuracy, [{:maybe, 2}, {:maybe, 0x80}, {:maybe, 0x81}])

    of = &(&1 && Extensions.Read.positive(%{&1 | tag: 2}))
    %{seconds: of.(seconds) || 0, millis: of.(millis) || 0, micros: of.(micros) || 0}
  end
end

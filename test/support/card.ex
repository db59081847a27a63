defmodule Cryptoki.Test.Card do
  @moduledoc false
  # A PIV card (NIST SP 800-73-4) in a virtual reader: it speaks the protocol of vsmartcard's vpcd, which
  # pcscd drives as any reader, and OpenSC as any card.
  #
  # Keys: 01 RSA-2048 and 04 P-256 (slots 9A and 9E), 02 P-256 that wants the PIN for each use (9C), 03
  # RSA-2048 for decryption (9D). The PIN is SoftHSM.pin/0 without its last digits, with three tries.

  use GenServer

  alias Cryptoki.Test.SoftHSM

  @port 35_963
  @atr <<0x3B, 0x95, 0x13, 0x81, 0x01, 0x80, 0x73, 0xFF, 0x01, 0x00, 0x0B>>
  @application <<0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00>>
  @slots [
    {0x9A, {:rsa, 2048, 65_537}, <<0x5FC105::24>>},
    {0x9C, {:namedCurve, :secp256r1}, <<0x5FC10A::24>>},
    {0x9D, {:rsa, 2048, 65_537}, <<0x5FC10B::24>>},
    {0x9E, {:namedCurve, :secp256r1}, <<0x5FC101::24>>}
  ]
  # What it tells terminals about itself: an expiry date, and that the application's PIN is its own.
  @chuid <<0x5FC102::24>>
  @discovery <<0x7E>>
  @answers %{
    ok: <<0x9000::16>>,
    not_found: <<0x6A82::16>>,
    unknown: <<0x6D00::16>>,
    blocked: <<0x6983::16>>,
    no_pin: <<0x6982::16>>,
    no_reference: <<0x6A88::16>>,
    no_answer: <<0x6F00::16>>,
    wrong_parameter: <<0x6A86::16>>
  }

  @doc "The card's PIN."
  @spec pin :: binary
  def pin, do: binary_part(SoftHSM.pin(), 0, 6)

  @doc "Makes a card; it is not in the reader."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil)

  @doc "Puts it into the reader, and waits until that has noticed."
  @spec insert(pid) :: :ok
  def insert(card), do: GenServer.call(card, :insert, 30_000)

  @doc "Pulls it out."
  @spec remove(pid) :: :ok
  def remove(card), do: GenServer.call(card, :remove)

  @doc "Pulls it out in the middle of the n-th private key operation from now."
  @spec drop_on(pid, pos_integer) :: :ok
  def drop_on(card, n), do: GenServer.call(card, {:drop_on, n})

  @doc "Whether what is stored on it can be read: not so with a bad contact."
  @spec readable(pid, boolean) :: :ok
  def readable(card, readable?), do: GenServer.call(card, {:readable, readable?})

  ## The reader's side

  @impl true
  def init(nil) do
    slots =
      for {slot, parameters, object} <- @slots, into: %{} do
        key = :public_key.generate_key(parameters)
        %{cert: der} = :public_key.pkix_test_root_cert(~c"piv", key: key, digest: :sha256)
        {slot, {key, object, der}}
      end

    certificates =
      for {_slot, {_key, object, der}} <- slots, into: %{} do
        {object, tlv(0x53, tlv(0x70, der) <> <<0x71, 1, 0, 0xFE, 0>>)}
      end

    objects =
      Map.merge(certificates, %{
        @chuid => tlv(0x53, chuid()),
        @discovery => tlv(0x7E, tlv(0x4F, @application) <> <<0x5F2F::16, 2, 0x40, 0>>)
      })

    keys = Map.new(slots, fn {slot, {key, _object, _der}} -> {slot, key} end)

    {:ok,
     reset(%{
       keys: keys,
       objects: objects,
       tries: 3,
       drop_on: nil,
       readable: true,
       socket: nil,
       inserting: nil
     })}
  end

  defp chuid do
    fascn = :binary.copy(<<0xD4>>, 25)

    tlv(0x30, fascn) <>
      tlv(0x34, :rand.bytes(16)) <> tlv(0x35, "20990101") <> <<0x3E, 0, 0xFE, 0>>
  end

  defp reset(card), do: Map.merge(card, %{verified: false, chain: "", more: ""})

  @impl true
  def handle_call(:insert, from, %{socket: nil} = card) do
    options = [:binary, packet: 2, active: true, nodelay: true]
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, @port, options)
    quick(socket)
    {:noreply, reset(%{card | socket: socket, inserting: from})}
  end

  def handle_call(:insert, _from, card), do: {:reply, :ok, card}
  def handle_call(:remove, _from, card), do: {:reply, :ok, out(card)}
  def handle_call({:drop_on, n}, _from, card), do: {:reply, :ok, %{card | drop_on: n}}

  def handle_call({:readable, readable?}, _from, card),
    do: {:reply, :ok, %{card | readable: readable?}}

  @impl true
  def handle_info({:tcp, socket, message}, %{socket: socket} = card) do
    {:noreply, message(message, seen(card))}
  end

  def handle_info({:tcp_closed, socket}, %{socket: socket} = card),
    do: {:noreply, seen(%{card | socket: nil})}

  # From the socket of a card that was pulled.
  def handle_info(_late, card), do: {:noreply, card}

  # A reader takes one card after the other: a card that is pulled before it was seen is one that it
  # still has to look at.
  defp seen(%{inserting: nil} = card), do: card

  defp seen(card) do
    GenServer.reply(card.inserting, :ok)
    %{card | inserting: nil}
  end

  # The reader writes the length and the rest apart: without this each command costs 40 ms.
  defp quick(socket), do: :inet.setopts(socket, [{:raw, 6, 12, <<1::native-32>>}])

  defp out(%{socket: nil} = card), do: card

  defp out(card) do
    :gen_tcp.close(card.socket)
    %{card | socket: nil, drop_on: nil}
  end

  # Power off, power on, reset; and the question for the answer to it.
  defp message(<<control>>, card) when control in 0..2, do: reset(card)
  defp message(<<4>>, card), do: answer(@atr, card)

  defp message(<<_class, 0x87, _::binary>>, %{drop_on: 1} = card), do: out(card)

  defp message(<<class, instruction, p1, p2, rest::binary>>, card) do
    counted = if instruction == 0x87 and card.drop_on, do: card.drop_on - 1, else: card.drop_on
    {data, expected} = data(rest)

    {reply, card} =
      command(class, instruction, {p1, p2}, data, expected, %{card | drop_on: counted})

    answer(reply, card)
  end

  defp answer(reply, card) do
    :gen_tcp.send(card.socket, reply)
    quick(card.socket)
    card
  end

  # Short and extended lengths (ISO 7816-4): the data, and how much may come back.
  defp data(""), do: {"", 256}
  defp data(<<expected>>), do: {"", at_most(expected, 256)}
  defp data(<<0, expected::16>>), do: {"", at_most(expected, 65_536)}
  defp data(<<0, size::16, data::binary-size(size), _::binary>>), do: {data, 65_536}
  defp data(<<size, data::binary-size(size)>>), do: {data, 256}

  defp data(<<size, data::binary-size(size), expected, _::binary>>),
    do: {data, at_most(expected, 256)}

  defp at_most(0, most), do: most
  defp at_most(expected, _most), do: expected

  ## Commands

  # GET RESPONSE: the rest of what was too long.
  defp command(_class, 0xC0, _p, _data, expected, card), do: reply(card.more, expected, card)

  # More of the command follows.
  defp command(class, _instruction, _p, data, _expected, card)
       when Bitwise.band(class, 0x10) != 0,
       do: {@answers.ok, %{card | chain: card.chain <> data}}

  defp command(_class, instruction, p, data, expected, card),
    do: whole(instruction, p, card.chain <> data, expected, %{card | chain: ""})

  # SELECT
  defp whole(0xA4, {4, _}, name, expected, card) when name != "" do
    if String.starts_with?(@application, name) do
      own = tlv(0x4F, binary_part(@application, 5, 6))
      authority = tlv(0x79, tlv(0x4F, binary_part(@application, 0, 5)))
      reply(tlv(0x61, own <> authority), expected, card)
    else
      {@answers.not_found, card}
    end
  end

  defp whole(0xA4, _p, _name, _expected, card), do: {@answers.not_found, card}

  # GET DATA
  defp whole(0xCB, _p, _data, _expected, %{readable: false} = card),
    do: {@answers.no_answer, card}

  defp whole(0xCB, _p, <<0x5C, size, name::binary-size(size)>>, expected, card) do
    case card.objects do
      %{^name => object} -> reply(object, expected, card)
      _none -> {@answers.not_found, card}
    end
  end

  # VERIFY
  defp whole(0x20, {_, reference}, _pin, _expected, card) when reference not in [0, 0x80],
    do: {@answers.no_reference, card}

  defp whole(0x20, {0xFF, _}, _pin, _expected, card), do: {@answers.ok, %{card | verified: false}}
  defp whole(0x20, _p, "", _expected, %{verified: true} = card), do: {@answers.ok, card}
  defp whole(0x20, _p, _pin, _expected, %{tries: 0} = card), do: {@answers.blocked, card}
  defp whole(0x20, _p, "", _expected, card), do: {tries(card), card}

  defp whole(0x20, _p, pin, _expected, card) do
    if String.trim_trailing(pin, <<0xFF>>) == pin() do
      {@answers.ok, %{card | verified: true, tries: 3}}
    else
      card = %{card | verified: false, tries: card.tries - 1}
      {tries(card), card}
    end
  end

  # GENERAL AUTHENTICATE
  defp whole(0x87, {_, slot}, data, expected, card) do
    cond do
      not is_map_key(card.keys, slot) ->
        {@answers.wrong_parameter, card}

      slot != 0x9E and not card.verified ->
        {@answers.no_pin, card}

      true ->
        reply(tlv(0x7C, tlv(0x82, private(card.keys[slot], challenge(data)))), expected, card)
    end
  end

  defp whole(_instruction, _p, _data, _expected, card), do: {@answers.unknown, card}

  defp tries(card), do: <<0x63, 0xC0 + card.tries>>

  defp reply(bytes, expected, card) when byte_size(bytes) <= expected,
    do: {bytes <> @answers.ok, %{card | more: ""}}

  defp reply(bytes, expected, card) do
    {now, more} = :erlang.split_binary(bytes, expected)
    {now <> <<0x61, min(byte_size(more), 255)>>, %{card | more: more}}
  end

  # The challenge in the dynamic authentication template.
  defp challenge(data) do
    {0x7C, template, ""} = untlv(data)

    template
    |> Stream.unfold(fn
      "" ->
        nil

      rest ->
        {tag, value, rest} = untlv(rest)
        {{tag, value}, rest}
    end)
    |> Map.new()
    |> Map.fetch!(0x81)
  end

  # RSA is raw here: OpenSC has padded what is to be signed, and removes what encryption has put on.
  defp private(key, block) when elem(key, 0) == :RSAPrivateKey do
    {n, d} = {elem(key, 2), elem(key, 4)}
    <<:crypto.mod_pow(block, d, n) |> :binary.decode_unsigned()::unit(8)-size(256)>>
  end

  defp private(key, digest), do: :public_key.sign({:digest, digest}, :sha256, key)

  ## BER-TLV

  defp tlv(tag, value) when byte_size(value) < 128, do: <<tag, byte_size(value), value::binary>>

  defp tlv(tag, value) when byte_size(value) < 256,
    do: <<tag, 0x81, byte_size(value), value::binary>>

  defp tlv(tag, value), do: <<tag, 0x82, byte_size(value)::16, value::binary>>

  defp untlv(<<tag, size, value::binary-size(size), rest::binary>>) when size < 128,
    do: {tag, value, rest}

  defp untlv(<<tag, 0x81, size, value::binary-size(size), rest::binary>>), do: {tag, value, rest}

  defp untlv(<<tag, 0x82, size::16, value::binary-size(size), rest::binary>>),
    do: {tag, value, rest}
end

defmodule Cryptoki.PaddingTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # Fixed fields are padded with blanks (PKCS #11 v3.2, section 2.1); some libraries pad with zero bytes, as
  # strncpy does, and other programs show those in the URIs that people copy.

  alias Cryptoki.URI
  alias Cryptoki.Test.FaultyModule

  @paddings ["", "   ", <<0>>, <<0, 0, 0, 0>>, <<0>> <> "    ", "  " <> <<0>>, <<0, "left over">>]

  setup do
    %{module: FaultyModule.new()}
  end

  for padding <- ["zeros", "mixed"] do
    @padding padding

    test "a library that pads with #{padding}: every text, every way to name the token",
         context do
      %{module: module} = context
      {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, sessions: 1))
      token = texts(Cryptoki.token_info!(hsm))
      library = texts(Cryptoki.library_info!(hsm))
      slots = Enum.map(Cryptoki.slots!(hsm), &texts/1)
      :ok = Cryptoki.stop(hsm)

      FaultyModule.control(module, "padding #{@padding}")

      for {field, option} <- [
            label: :label,
            serial: :serial,
            model: :model,
            manufacturer: :manufacturer
          ],
          padding <- @paddings,
          # The model and the manufacturer are those of the empty slot too.
          wanted = [{option, token[field] <> padding}, {:label, token.label}] do
        options =
          Keyword.put(
            FaultyModule.options(module, sessions: 1),
            :token,
            Enum.uniq_by(wanted, &elem(&1, 0))
          )

        {:ok, hsm} = Cryptoki.start_link(options)
        assert {:ok, %{state: :ready}} = Cryptoki.status(hsm)
        assert texts(Cryptoki.token_info!(hsm)) == token
        assert texts(Cryptoki.library_info!(hsm)) == library
        assert Enum.map(Cryptoki.slots!(hsm), &texts/1) == slots

        [_ | _] = Cryptoki.find!(hsm, []) ++ [:none]
        :ok = Cryptoki.stop(hsm)
      end

      # As p11tool prints it.
      uri =
        "pkcs11:model=#{escaped(token.model, 16)};manufacturer=#{escaped(token.manufacturer, 32)};" <>
          "serial=#{escaped(token.serial, 16)};token=#{escaped(token.label, 32)}"

      options = Keyword.put(FaultyModule.options(module, sessions: 1), :token, uri)
      {:ok, hsm} = Cryptoki.start_link(options)
      assert {:ok, %{state: :ready}} = Cryptoki.status(hsm)
      :ok = Cryptoki.stop(hsm)
    end
  end

  test "of what a URI says of a library, a slot and a token" do
    info = %{label: "TPM", model: "SLB9670", manufacturer: "Infineon", serial: "0", id: 1}
    library = %{manufacturer: "tpm2-pkcs11", description: "TPM2.0 Cryptoki", version: {0, 0}}
    slot = %{description: "reader", manufacturer: "Infineon", id: 1}

    for padding <- @paddings do
      fits = &(&1 |> URI.new())
      assert URI.matches_token?(fits.(model: "SLB9670" <> padding), info)
      assert URI.matches_token?(fits.(token: "TPM"), %{info | label: "TPM" <> padding})

      assert URI.matches_library?(
               fits.(library_description: "TPM2.0 Cryptoki" <> padding),
               library
             )

      assert URI.matches_slot?(fits.(slot_description: "reader" <> padding), slot)
      refute URI.matches_token?(fits.(model: "SLB9" <> padding), info)
    end

    {:ok, uri} = URI.parse("pkcs11:model=SLB9670%00%00%00%00%00%00%00%00%00;token=TPM%00")
    assert URI.matches_token?(uri, info)
  end

  defp escaped(text, size) do
    padding = String.duplicate("%00", size - byte_size(text))
    Elixir.URI.encode(text, &Elixir.URI.char_unreserved?/1) <> padding
  end

  defp texts(info),
    do: for({name, text} <- info, is_binary(text), name != :utc_time, into: %{}, do: {name, text})
end

defmodule Mix.Tasks.Cryptoki.Init do
  alias Mix.Cryptoki.Secrets

  use Mix.Cryptoki,
    usage: "[URI] --label LABEL [--no-pin] [--yes] [options]",
    switches: [label: :string, no_pin: :boolean, yes: :boolean] ++ Secrets.switches([:so_pin])

  alias Cryptoki.{Error, Listing, Opening, Options, Token, URI}
  alias Mix.Cryptoki.{Files, Place}

  @shortdoc "Initialises a token and sets its PINs"

  @moduledoc """
  Initialises a token: gives it a label, the PIN of its security officer and the PIN of its user, and prints
  its PKCS #11 URI. Without a URI it is the first token that is not initialised yet.

      $ mix cryptoki.init --label payments --library /usr/lib/softhsm/libsofthsm2.so
      $ mix cryptoki.init "pkcs11:token=payments" --label payments

  **Everything on a token that is initialised already is destroyed**, after a question at the terminal; it
  wants the PIN that its security officer has. A label that another token has already is refused.

    * `--label LABEL`: 1 to 32 bytes
    * #{Secrets.docs(:so_pin, "the PIN of the security officer")}
    * `--no-pin`, `-n`: sets no PIN of the user: `mix cryptoki.pin --init` does
    * `--yes`, `-y`: without a question, and with a label that another token has

  The PIN of the user is the one that the options of all tasks name.

  #{Mix.Cryptoki.docs()}
  """

  defp task(arguments, options) do
    uri = Place.uri!(arguments, options)
    label = options[:label] || raise ArgumentError, "--label is missing"

    unless byte_size(label) in 1..32,
      do: raise(ArgumentError, "--label is a text of 1 to 32 bytes")

    with {:ok, where} <- Place.where(uri, options) do
      # Slots keep their numbers while the library is ours.
      Opening.held(where, fn ->
        with {:ok, slots} <- Opening.slots(where),
             {:ok, slot} <- chosen(slots, where.place),
             :ok <- unused(slots, slot, label, options),
             :ok <- Place.confirm_destruction!(slot, options),
             {:ok, so_pin} <- so_pin(slot, options),
             {:ok, pin} <- pin(slot, uri, options),
             own = Keyword.take(where.library, [:library, :init_args, :timeout]),
             :ok <- Token.init(slot.id, [label: label, so_pin: so_pin] ++ own),
             :ok <- init_pin(slot.id, so_pin, pin, own),
             {:ok, slots} <- Opening.slots(where),
             do: tell(Enum.find(slots, &(&1.id == slot.id)))
      end)
    end
  end

  defp chosen(slots, place) do
    present = for %{token: %{}} = slot <- slots, do: slot

    fitting =
      if place == %URI{},
        do: present |> Enum.reject(&initialized?/1) |> Enum.take(1),
        else: Enum.filter(present, &Options.matches_token?(place, &1))

    case fitting do
      [slot] ->
        {:ok, slot}

      none_or_several ->
        IO.write(:stderr, Listing.tokens(slots, :infinity))
        {:error, Error.new(:token_absent, sentence(none_or_several, place))}
    end
  end

  defp sentence([], %URI{} = place) when place == %URI{},
    do: "no slot has a token that is not initialised yet: name one that is by a URI"

  defp sentence([], _place), do: "no token fits the URI"
  defp sentence(_several, _place), do: "more than one token fits the URI: add slot-id="

  defp initialized?(slot), do: :token_initialized in slot.token.flags

  # Two tokens of one label are found by neither: what names them has to say more.
  defp unused(slots, slot, label, options) do
    others = for %{token: %{label: ^label}} = other <- slots, other.id != slot.id, do: other

    if others != [] and !options[:yes],
      do:
        {:error,
         Error.new(
           :token_ambiguous,
           "there is a token #{inspect(label)} already: take another label, or say --yes"
         )},
      else: :ok
  end

  defp so_pin(slot, options) do
    cond do
      :protected_authentication_path in slot.token.flags -> {:ok, :protected_path}
      initialized?(slot) -> Secrets.fetch(:so_pin, options, "PIN of the security officer")
      true -> Secrets.choose(:so_pin, options, "new PIN of the security officer")
    end
  end

  defp pin(slot, uri, options) do
    with {:ok, nil} <- URI.pin(uri) do
      cond do
        options[:no_pin] -> {:ok, nil}
        :protected_authentication_path in slot.token.flags -> {:ok, :protected_path}
        true -> Secrets.choose(:pin, options, "new PIN of the user")
      end
    end
  end

  defp init_pin(_slot, _so_pin, nil, _options), do: :ok

  defp init_pin(slot, so_pin, pin, options) do
    with {:error, error} <- Token.init_pin(slot, [so_pin: so_pin, pin: pin] ++ options) do
      text =
        "the token is initialised, and has no PIN of the user yet: " <> Exception.message(error)

      {:error, Error.new(error.reason, text)}
    end
  end

  defp tell(%{token: %{} = token}), do: Files.text([Place.token_uri(token), "\n"])
  defp tell(_gone), do: IO.puts(:stderr, "it is initialised")
end

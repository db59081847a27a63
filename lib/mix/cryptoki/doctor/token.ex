defmodule Mix.Cryptoki.Doctor.Token do
  @moduledoc false
  # Which of the tokens is meant, and what it says of itself.

  alias Cryptoki.{Opening, URI}
  alias Mix.Cryptoki.{Doctor, Place}

  @doc "The one slot whose token fits the URI."
  @spec chosen([map], URI.t(), URI.t()) :: Doctor.found(map)
  def chosen(slots, place, uri) do
    unread =
      for %{id: id, token: {:error, error}} <- slots,
          do: {:careful, "slot #{id}: #{Exception.message(error)}", []}

    case Opening.fitting(slots, place) do
      [slot] ->
        name = inspect(slot.token.label)

        {:ok, slot,
         unread ++
           [
             {:ok,
              "the token #{name} is in slot #{slot.id}: #{slot.token.model} #{slot.token.serial}",
              []}
           ]}

      [] ->
        {:stop, unread ++ [missing(slots, place, uri)]}

      several ->
        {:stop, unread ++ [several(several, place)]}
    end
  end

  defp missing(slots, place, uri) do
    tokens = for %{token: %{} = token} <- slots, do: token
    initialized = Enum.filter(tokens, &(:token_initialized in &1.flags))

    cond do
      tokens == [] ->
        {:wrong, "no slot has a token in it: insert it", []}

      initialized == [] ->
        {:wrong, "no token is initialised",
         ["mix cryptoki.init --label #{shell(uri.token || "payments")}"]}

      true ->
        {:wrong, "no initialised token fits #{place}; those that are there:",
         Enum.map(initialized, &examine/1) ++ free(tokens, uri)}
    end
  end

  defp free(tokens, uri) do
    if uri.token && Enum.any?(tokens, &(:token_initialized not in &1.flags)),
      do: ["mix cryptoki.init --label #{shell(uri.token)}    # makes it in a slot that is free"],
      else: []
  end

  defp several(slots, %URI{} = place) when place == %URI{},
    do:
      {:careful, "#{length(slots)} tokens are there: which one?",
       for(slot <- slots, do: examine(slot.token))}

  defp several(slots, place) do
    {:wrong, "#{length(slots)} tokens fit #{place}, and an instance takes none of them: say more",
     for(slot <- slots, do: examine(slot.token, slot.id, slots))}
  end

  defp examine(token), do: "mix cryptoki.doctor #{shell(Place.token_uri(token))}"

  # Even the serial number may be the same.
  defp examine(token, id, slots) do
    same = Enum.count(slots, &(&1.token.serial == token.serial))
    if same == 1, do: examine(token), else: "mix cryptoki.doctor #{shell("pkcs11:slot-id=#{id}")}"
  end

  @doc "A word of the shell."
  @spec shell(String.t()) :: String.t()
  def shell(text) do
    if text =~ ~r/\A[\w.:=%\/@+-]+\z/,
      do: text,
      else: "'" <> String.replace(text, "'", "'\\''") <> "'"
  end

  @doc "The token of a slot with the PIN of the URI: no other, whatever comes meanwhile."
  @spec uri(map, URI.t()) :: URI.t()
  def uri(%{token: token}, %URI{} = uri), do: %{uri | token: token.label, serial: token.serial}

  ## What its flags say

  @doc "What its flags say: of its state, and of the tries that are left."
  @spec state(map) :: Doctor.found(map)
  def state(%{token: %{flags: flags} = token} = slot) do
    uri = shell(Place.token_uri(token))

    findings =
      for {flag, level, sentence, task} <- flags(), flag in flags do
        {level, sentence, if(task, do: ["mix cryptoki.pin #{uri}#{task}"], else: [])}
      end

    {:ok, slot, findings ++ user_pin(flags, uri)}
  end

  # {flag, how bad it is, what it means, what `mix cryptoki.pin` is given}
  defp flags do
    [
      {:error_state, :wrong,
       "the token is in a state of error, and takes no calls: restart it, see its vendor", nil},
      {:write_protected, :careful,
       "the token is write-protected: nothing can be created or changed on it", nil},
      {:user_pin_locked, :wrong,
       "the PIN of the user is locked: the security officer can set another one", " --init"},
      {:user_pin_final_try, :careful, "one try of the user's PIN is left: a wrong one locks it",
       nil},
      {:user_pin_count_low, :careful,
       "the last PIN of the user that the token was given was wrong", nil},
      {:user_pin_to_be_changed, :careful,
       "the PIN of the user has to be changed before it is good for more", ""},
      {:so_pin_locked, :careful,
       "the PIN of the security officer is locked: nobody can set the user's anew", nil},
      {:so_pin_final_try, :careful,
       "one try of the security officer's PIN is left: a wrong one locks it", nil},
      {:so_pin_count_low, :careful,
       "the last PIN of the security officer that the token was given was wrong", nil},
      {:so_pin_to_be_changed, :careful, "the PIN of the security officer has to be changed",
       " --so"}
    ]
  end

  defp user_pin(flags, uri) do
    if :login_required in flags and :user_pin_initialized not in flags,
      do: [{:wrong, "the token has no PIN of its user yet", ["mix cryptoki.pin #{uri} --init"]}],
      else: []
  end
end

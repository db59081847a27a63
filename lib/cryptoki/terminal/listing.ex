defmodule Cryptoki.Listing do
  @moduledoc false
  # Tokens and objects as tables, for iex and for the Mix tasks.

  alias Cryptoki.{Key, Objects, Table}

  @uses ~w[sign verify encrypt decrypt wrap unwrap derive encapsulate decapsulate]a
  # What is read of an object for its row. Never a value: it may be a key.
  @row @uses ++ [:curve, :modulus_bits, :modulus, :value_len, :certificate_type]

  @details [:token, :private, :modifiable] ++
             [:sensitive, :extractable, :always_sensitive, :never_extractable, :local] ++
             [:always_authenticate, :wrap_with_trusted, :trusted] ++
             [:key_gen_mechanism, :start_date, :end_date, :unique_id]

  @type width :: Table.width()

  @doc "How wide the output may be."
  @spec width() :: width
  def width do
    case :io.columns() do
      {:ok, columns} -> columns
      {:error, _not_a_terminal} -> :infinity
    end
  end

  ## Tokens

  @doc "The slots of a library, as `Cryptoki.slots/1` answers them, with what is in them."
  @spec tokens([map], width) :: String.t()
  def tokens(slots, width) do
    rows =
      for slot <- slots do
        case slot.token do
          nil -> ["#{slot.id}", nil, nil, nil, "no token"]
          {:error, error} -> ["#{slot.id}", nil, nil, nil, "cannot be read: #{error.reason}"]
          token -> ["#{slot.id}", token.label, token.model, token.serial, state(token.flags)]
        end
      end

    Table.format(~w[slot token model serial state], rows, width)
  end

  @states [
    user_pin_locked: "PIN locked",
    user_pin_final_try: "PIN: one try left",
    user_pin_count_low: "PIN: refused lately",
    write_protected: "write-protected",
    protected_authentication_path: "has its own keypad"
  ]

  defp state(flags) do
    cond do
      :token_initialized not in flags -> "not initialised"
      :user_pin_initialized not in flags and :login_required in flags -> "no user PIN"
      true -> Enum.find_value(@states, "ready", fn {flag, text} -> flag in flags && text end)
    end
  end

  ## Objects

  @doc "A line for each object, also for those that cannot be read."
  @spec objects(term, [Key.t()], width) :: String.t()
  def objects(hsm, keys, width) do
    rows =
      for key <- Enum.sort_by(keys, &{&1.label, &1.id, &1.class}) do
        {read, uses} =
          case Objects.attributes(hsm, key, @row, []) do
            {:ok, read} -> {read, uses(read)}
            {:error, error} -> {%{}, "cannot be read: #{error.reason}"}
          end

        [
          class(key),
          kind(key, read),
          key.label,
          id(key),
          uses,
          if(key.token == false, do: "session")
        ]
      end

    Table.format(~w[class type label id for where], rows, width)
  end

  @doc "All that may be known of an object, a line for each attribute."
  @spec object(term, Key.t(), width) :: {:ok, String.t()} | {:error, Cryptoki.Error.t()}
  def object(hsm, key, width) do
    with {:ok, read} <- Objects.attributes(hsm, key, @row ++ @details, []) do
      named = [
        {"class", class(key)},
        {"type", kind(key, read)},
        {"label", key.label},
        {"id", id(key)},
        {"for", uses(read)}
      ]

      more = for name <- @details, text = shown(read[name]), do: {"#{name}", text}
      pairs = for {name, text} <- named, text not in [nil, ""], do: {name, text}
      # The URI as a whole, for copying.
      {_ok_or_error, uri} = Key.uri(key)
      {:ok, Table.pairs(pairs ++ more, width) <> uri <> "\n"}
    end
  end

  defp class(%Key{class: class}), do: word(class)

  defp kind(%Key{key_type: nil}, read), do: word(readable(read[:certificate_type]))

  defp kind(%Key{key_type: type}, read) do
    size =
      readable(read[:curve]) || readable(read[:modulus_bits]) || bits(readable(read[:modulus])) ||
        bits(readable(read[:value_len]))

    Enum.join([word(type) | List.wrap(size && word(size))], " ")
  end

  defp bits(bytes) when is_binary(bytes), do: bit_size(String.trim_leading(bytes, <<0>>))
  defp bits(length) when is_integer(length) and length > 0, do: length * 8
  defp bits(_none), do: nil

  defp id(%Key{id: id}) when id in [nil, ""], do: nil
  defp id(%Key{id: id}), do: Base.encode16(id, case: :lower)

  defp uses(read), do: Enum.map_join(for(use <- @uses, read[use] == true, do: use), " ", &word/1)

  defp readable({:error, _reason}), do: nil
  defp readable(value), do: value

  defp shown({:error, _reason}), do: nil
  defp shown(value) when value in [nil, "", :unavailable], do: nil
  defp shown(value) when is_binary(value), do: if(String.printable?(value), do: value)
  defp shown(value), do: inspect(value)

  defp word(nil), do: nil
  defp word(name) when is_atom(name), do: String.replace("#{name}", "_key", "")
  defp word(number) when is_integer(number), do: "#{number}"
  defp word(other), do: inspect(other)
end

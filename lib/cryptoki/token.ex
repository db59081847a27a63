defmodule Cryptoki.Token do
  @moduledoc """
  Administration of tokens, without an instance: making one, setting its PINs.

  Each function takes the slot first: its id, `:free` for the first slot whose token is not
  initialised yet, or the token as the option `token:` of `Cryptoki.start_link/1` names it
  (`[label: "payments"]`, `"pkcs11:serial=0042"`). Options of all of them:

    * `library:` the vendor's PKCS #11 library; without it the environment variable
      `CRYPTOKI_LIBRARY`
    * `init_args:` the reserved string of `C_Initialize`, and `env:` what is in C's environment while it runs
    * `isolation:` and `memory:` as those of an instance: with `:process` the library runs in a process of its own
      meanwhile
    * `timeout:` in milliseconds, 5 000 when not given

  PINs are given as the `pin:` of an instance is: a function, `{module, function, arguments}`,
  `{:env, name}`, `{:file, path}`, `:protected_path` or a string. Where another token has come into the
  slot meanwhile, nothing is done to it: `:token_absent`.
  """

  alias Cryptoki.{Each, Error, Information, Instances, Names, Options, Pin, Tries, URI}
  alias Cryptoki.Native.Wait

  @library [:library, :init_args, :env, :isolation, :memory, :timeout]

  @typedoc "Which slot: its id, the first free one, or the one with this token."
  @type slot :: non_neg_integer | :free | keyword | String.t() | URI.t()

  @doc """
  Initialises a token: everything on it is destroyed, it gets a label and, when it is new, the PIN
  of its security officer. An initialised token wants that PIN as it is.

  Errors: `:token_absent` when there is no such slot, `:pin_incorrect`, `:session_exists` while
  anybody uses the token. PKCS #11 v3.2, section 5.5.7 (C_InitToken).

      :ok = Cryptoki.Token.init(:free, library: library, label: "payments", so_pin: "87654321")
  """
  @spec init(slot, keyword) :: :ok | {:error, Error.t()}
  def init(slot, opts) do
    label = label!(opts[:label])

    change(slot, opts, [:label, :so_pin], [:so_pin], fn id, [so_pin] ->
      {:init_token, id, so_pin, label}
    end)
  end

  @doc """
  Sets the PIN of the user, as the security officer.

  Errors: `:pin_incorrect` for the security officer's, `:pin_len_range`, `:pin_invalid` for the new
  one. PKCS #11 v3.2, section 5.5.8 (C_InitPIN).

      :ok =
        Cryptoki.Token.init_pin([label: "payments"],
          library: library, so_pin: "87654321", pin: {:env, "HSM_PIN"})
  """
  @spec init_pin(slot, keyword) :: :ok | {:error, Error.t()}
  def init_pin(slot, opts) do
    change(slot, opts, [:so_pin, :pin], [:so_pin, :pin], fn id, [so_pin, pin] ->
      {:init_pin, id, so_pin, pin}
    end)
  end

  @doc """
  Changes a PIN: the user's, or with `user: :so` the security officer's.

  Errors: `:pin_incorrect` for the old one, `:pin_len_range`, `:pin_invalid` for the new one. PKCS
  #11 v3.2, section 5.5.9 (C_SetPIN).

      :ok =
        Cryptoki.Token.set_pin([label: "payments"],
          library: library, old: {:env, "HSM_PIN"}, new: {:env, "NEW_PIN"})
  """
  @spec set_pin(slot, keyword) :: :ok | {:error, Error.t()}
  def set_pin(slot, opts) do
    user = user!(opts[:user])

    change(slot, opts, [:old, :new, :user], [:old, :new], fn id, [old, new] ->
      {:set_pin, id, user, old, new}
    end)
  end

  # Checks, opens the library, finds the slot, fetches the PINs and hands them over.
  defp change(slot, opts, known, pins, op) do
    known!(opts, known)
    pins = for name <- pins, do: pin!(name, opts[name])
    start = Keyword.take(opts, @library)
    start = if is_integer(slot) or slot == :free, do: start, else: [{:token, slot} | start]
    options = Information.library!(start)

    Information.with_library(options, fn library, deadline ->
      with {:ok, slots} <- Wait.control(library, {:slots}, deadline),
           {:ok, %{id: id, token: token}} <- choose(slots, slot, options.token),
           {:ok, token} <- answering(token),
           :ok <- Pin.hidden(fn -> hand_over(library, {id, token}, pins, op, deadline) end) do
        # What was refused before may be right now.
        if token, do: Tries.forgive(Instances.identity(token))
        :ok
      end
    end)
  end

  defp hand_over(library, {id, token}, pins, op, deadline) do
    with {:ok, pins} <- Each.of(pins, &fetch/1),
         {:ok, _now} <- still_there(library, id, token, deadline),
         do: Wait.control(library, op.(id, pins), deadline)
  end

  defp choose(slots, :free, _wanted) do
    slots
    |> Enum.filter(&(is_map(&1.token) and :token_initialized not in flags(&1.token)))
    |> Enum.take(1)
    |> one("no slot has a token that is not initialised yet")
  end

  defp choose(slots, id, _wanted) when is_integer(id),
    do: slots |> Enum.filter(&(&1.id == id)) |> one("there is no slot #{id}")

  defp choose(slots, _slot, wanted) do
    slots
    |> Enum.filter(&Options.matches_token?(wanted, &1))
    |> one("not exactly one is #{wanted}")
  end

  defp one([slot], _sentence), do: {:ok, slot}
  defp one(_none_or_several, sentence), do: {:error, Error.new(:token_absent, sentence)}

  defp answering({:error, failure}), do: {:error, Wait.error(failure)}
  defp answering(token), do: {:ok, token}

  defp flags(token), do: Names.flags(:token, token.flags)

  defp fetch(pin), do: with({:ok, :protected_path} <- Pin.fetch(pin), do: {:ok, nil})

  # Another token may have come while somebody typed a PIN.
  defp still_there(_library, _id, nil, _deadline), do: {:ok, nil}

  defp still_there(library, id, token, deadline),
    do: Instances.still_there(library, id, token, deadline)

  ## Checking

  defp known!(opts, known) do
    unless Keyword.keyword?(opts), do: raise(ArgumentError, "options are a keyword list")
    Options.known!(opts, known ++ @library, "option")
  end

  defp pin!(name, nil), do: raise(ArgumentError, "#{name}: is missing: #{Pin.expected()}")

  defp pin!(name, source) do
    case Pin.cast(source) do
      {:ok, pin} -> pin
      :error -> raise ArgumentError, "#{name}: must be #{Pin.expected()}"
    end
  end

  defp label!(label) when is_binary(label) and byte_size(label) in 1..32, do: label

  defp label!(_other),
    do: raise(ArgumentError, "label: must be a string of 1 to 32 bytes, the label of the token")

  defp user!(user) when user in [nil, :user], do: nil

  defp user!(:so), do: Names.code!(:user, :so)
  defp user!(_other), do: raise(ArgumentError, "user: must be :user or :so")
end

defmodule Cryptoki.Tries do
  @moduledoc false
  # Which PINs were handed to which tokens, and what came of it: one that is not known to be good goes to
  # no token twice by itself. It is noted before the library gets the PIN, and for the life of the VM: no
  # end of a process, an instance or an application forgets it. A token is what stays the same of it
  # through whatever instance, library or slot it is reached; a PIN is a keyed hash of it.
  #
  # | state      | the PIN was                                   | it is handed over
  # |------------|-----------------------------------------------|------------------------------
  # | `free`     | never handed over, or not looked at           | yes
  # | `good`     | taken                                         | yes
  # | `handed`   | handed over, and there is no answer yet       | when there is; not if nobody waits for it any more
  # | `doubtful` | handed over when the device failed, or taken  | once more
  # |            | before and the library then crashed with it   |
  # | `refused`  | refused, or nobody knows (with code, or zero) | when a person insists

  alias Cryptoki.{Error, Recovery, Sealed}
  alias Cryptoki.Native.Wait

  @free 0
  @good 1
  @handed 2
  @doubtful 3
  @refused 4

  # Where in the row.
  @state 1
  @code 2
  @number 3
  @serial 4

  @pin_codes 0xA0..0xA4

  @typedoc "A row, and the state that it had before the PIN was handed over."
  @type t :: :atomics.atomics_ref()
  @type before :: non_neg_integer

  @doc "The row of a PIN."
  @spec of(token :: term, user :: term, binary | :protected_path) :: t
  def of(token, user, pin) do
    key = {__MODULE__, token, user, Sealed.hash(to_string(pin))}
    Sealed.once(key, fn -> :atomics.new(4, signed: false) end)
  end

  @doc """
  Notes that the calling process hands the PIN over now; waits for whoever has done so. The error says
  why it must not, unless somebody insists.
  """
  @spec hand(t, insists :: boolean, Wait.deadline()) :: {:ok, before} | {:error, Error.t()}
  def hand(tries, insists, deadline) do
    case :atomics.get(tries, @state) do
      @handed -> wait(tries, insists, deadline)
      @refused when not insists -> {:error, refused(:atomics.get(tries, @code))}
      before -> hand_now(tries, before, insists, deadline)
    end
  end

  defp hand_now(tries, before, insists, deadline) do
    [number, serial] = numbers(self())
    :atomics.put(tries, @number, number)
    :atomics.put(tries, @serial, serial)

    case :atomics.compare_exchange(tries, @state, before, @handed) do
      :ok -> {:ok, before}
      _another -> hand(tries, insists, deadline)
    end
  end

  defp wait(tries, insists, deadline) do
    ref = tries |> holder() |> Process.monitor()

    receive do
      # One that ended without a word has taken the answer with it.
      {:DOWN, ^ref, :process, _pid, _reason} ->
        if :atomics.get(tries, @state) == @handed, do: refuse(tries, @handed, 0)
        hand(tries, insists, deadline)
    after
      Wait.remaining(deadline) ->
        Process.demonitor(ref, [:flush])
        detail = "another login with this PIN has not returned"
        {:error, Error.new(:timeout, detail, executed: false)}
    end
  end

  # "<0.number.serial>", as the VM writes it.
  defp numbers(pid) do
    ["<0", number, serial] = pid |> :erlang.pid_to_list() |> to_string() |> String.split(".")
    [String.to_integer(number), serial |> String.trim_trailing(">") |> String.to_integer()]
  end

  defp holder(tries) do
    {number, serial} = {:atomics.get(tries, @number), :atomics.get(tries, @serial)}
    :erlang.list_to_pid(~c"<0.#{number}.#{serial}>")
  end

  @doc "What came of it; whether the PIN may be handed over again."
  @spec answered(t, before, Recovery.tried(), code :: non_neg_integer | nil) :: boolean
  def answered(tries, before, tried, code) do
    case tried do
      :accepted -> put(tries, @good)
      :not_tried -> put(tries, before)
      :doubtful when before in [@free, @good] -> put(tries, @doubtful)
      :crashed when before == @good -> put(tries, @doubtful)
      _doubtful_again_or_refused -> refuse(tries, @handed, code || 0)
    end

    :atomics.get(tries, @state) != @refused
  end

  @doc "Whether the token has taken the PIN, and nothing was heard against it since."
  @spec good?(t) :: boolean
  def good?(tries), do: :atomics.get(tries, @state) == @good

  @doc "What came of one that was handed over because it is good, as others do at the same time."
  @spec used(t, Recovery.tried(), code :: non_neg_integer | nil) :: boolean
  def used(tries, tried, code) do
    case tried do
      doubtful when doubtful in [:doubtful, :crashed] ->
        :atomics.compare_exchange(tries, @state, @good, @doubtful)

      :refused ->
        refuse(tries, code)

      _accepted_or_not_tried ->
        :ok
    end

    tried != :refused
  end

  @doc "Whether the PIN may be handed over: not after a refusal."
  @spec allowed(t) :: :ok | {:error, Error.t()}
  def allowed(tries) do
    if :atomics.get(tries, @state) == @refused,
      do: {:error, refused(:atomics.get(tries, @code))},
      else: :ok
  end

  @doc "Notes the refusal of one that was good."
  @spec refuse(t, code :: non_neg_integer | nil) :: :ok
  def refuse(tries, code), do: refuse(tries, :atomics.get(tries, @state), code || 0)

  defp refuse(tries, before, code) do
    if before != @refused, do: :atomics.put(tries, @code, code)
    put(tries, @refused)
  end

  defp put(tries, state), do: :atomics.put(tries, @state, state)

  @doc "Forgets what one token refused: its PIN was set anew."
  @spec forgive(token :: term) :: :ok
  def forgive(token) do
    for {{__MODULE__, ^token, _user, _hash}, tries} <- :persistent_term.get(),
        :atomics.get(tries, @state) != @handed,
        do: put(tries, @free)

    :ok
  end

  @doc "Forgets what was heard of one PIN."
  @spec forgive(token :: term, user :: term, binary | :protected_path) :: :ok
  def forgive(token, user, pin) do
    tries = of(token, user, pin)
    if :atomics.get(tries, @state) == @handed, do: :ok, else: put(tries, @free)
  end

  defp refused(code) when code in @pin_codes do
    detail = "the token has refused it before, it was not tried again"
    Error.new(:pin_incorrect, detail)
  end

  defp refused(0) do
    detail = "the PIN was handed to the token, whose answer is not known; it was not tried again"
    Error.new(:locked, detail)
  end

  defp refused(code) do
    detail = "at the last login with this PIN; it was not tried again"
    error = Error.from_native({:rv, code, :C_Login, :other})
    %{error | function: nil, executed: false, detail: detail}
  end
end

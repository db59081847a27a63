defmodule Cryptoki.Unlocks do
  @moduledoc false
  # The PINs that people have given with `Cryptoki.unlock/3`: a part of the token server's state. Each is
  # tried for itself, and answered for itself. It takes the place of the instance's own when the token
  # has taken it, not before. The PIN itself stands in a row of `Cryptoki.Instances`, here is its key.
  #
  # | the attempt says              | the caller gets | what becomes of the PIN
  # |-------------------------------|-----------------|-----------------------------------
  # | the token has taken it        | `:ok`           | it is the instance's
  # | somebody is logged in already | `:ok`           | forgotten: nobody has looked at it
  # | refused, or not to be had     | the error       | forgotten
  # | the token is away             | the error       | tried when it comes, the last that was given

  alias Cryptoki.{Error, Instances}

  defstruct waiting: [], later: nil

  @type unlock :: %{from: GenServer.from() | nil, pin: Instances.what(), force: boolean}
  @type t :: %__MODULE__{waiting: [unlock], later: unlock | nil}

  @doc "One more."
  @spec add(t, GenServer.from(), Instances.what(), force :: boolean) :: t
  def add(%__MODULE__{} = unlocks, from, pin, force),
    do: %{unlocks | waiting: unlocks.waiting ++ [%{from: from, pin: pin, force: force}]}

  @doc "The one that is tried next; its caller is served by the job that does."
  @spec next(t) :: {unlock, t}
  def next(%__MODULE__{waiting: [unlock | waiting]} = unlocks),
    do: {unlock, %{unlocks | waiting: waiting}}

  @doc "Who waits for its answer."
  @spec callers(unlock | nil) :: [GenServer.from()]
  def callers(%{from: from}) when from != nil, do: [from]
  def callers(_nobody), do: []

  @doc "What an attempt has to know: which PIN, and who stands behind it."
  @spec context(unlock | nil) :: %{pin: Instances.what(), force: boolean, asked: boolean}
  def context(nil), do: %{pin: :pin, force: false, asked: false}
  def context(unlock), do: %{pin: unlock.pin, force: unlock.force, asked: true}

  @doc "What a result means for the PIN that was tried; `own` when the instance's own is as good as before."
  @spec outcome(result :: term) :: :accepted | :shared | :own | :later
  def outcome({:ok, %{login: login}, _opened}), do: outcome({:ok, login})
  def outcome({:ok, :accepted}), do: :accepted
  def outcome({:ok, _not_looked_at}), do: :shared
  def outcome({:locked, _error}), do: :own
  def outcome({:error, %Error{reason: :pin_unavailable}}), do: :own
  def outcome(_away), do: :later

  @doc "What becomes of the PIN, by that and by what the instance has become."
  @spec settle(t, {pid, state :: atom}, unlock, :accepted | :shared | :own | :later) :: t
  def settle(%__MODULE__{later: before} = unlocks, {instance, :absent}, unlock, :later) do
    # The one that waits may be the one that has just failed again.
    if before != nil and before.pin != unlock.pin, do: Instances.delete(instance, before.pin)
    %{unlocks | later: %{unlock | from: nil}}
  end

  def settle(%__MODULE__{later: later} = unlocks, {instance, _state}, unlock, outcome) do
    if outcome == :accepted,
      do: Instances.put(instance, :pin, Instances.get(instance, unlock.pin))

    Instances.delete(instance, unlock.pin)
    if later != nil and later.pin == unlock.pin, do: %{unlocks | later: nil}, else: unlocks
  end
end

defmodule Cryptoki.Call do
  @moduledoc false
  # One call of the queue, and what is done about an error (decided by `Cryptoki.Recovery`): how often it was
  # run again, for which reason, and how long all of that took.

  alias Cryptoki.{Error, Events, Instances, Native, Recovery, Target, TokenServer}
  alias Cryptoki.Native.Wait

  @type build :: (:cached | :fresh -> {:ok, tuple} | {:error, Error.t()})

  @typedoc """
  `build` makes the operation, with `keys` from the cache or looked up afresh. The others say how often it was
  run again after a login, after a look at the keys (`resolve`), and after a session was opened anew;
  `:never` where it must not be, `:look` where whoever looked the object up does so again. `work` is done while
  the library is at it.
  """
  @type t :: %__MODULE__{
          target: Target.t(),
          build: build,
          keys: :cached | :fresh,
          login: 0 | 1 | :never,
          resolve: non_neg_integer | :never,
          reopened: 0 | 1 | :never | :look,
          times: Wait.times(),
          work: (() -> term) | nil
        }

  @enforce_keys [:target, :build]
  defstruct [
    :target,
    :build,
    keys: :cached,
    login: 0,
    resolve: 0,
    reopened: 0,
    times: {0, 0},
    work: nil
  ]

  # Milliseconds after which a call is named as what the others wait for.
  @noteworthy 1_000
  @steps ~w[update digest_key dual_update final message message_begin message_next message_final save_state]a

  @doc "Runs an operation that names no key."
  @spec run(Target.t(), tuple) :: Wait.answer()
  def run(%Target{} = target, op), do: run_beside(target, op, nil)

  @doc """
  The same; the value is `{value, done}`, where `done` is what `work` answers. It runs while the library does, once more
  where the operation does, and in vain where that fails.
  """
  @spec run_beside(Target.t(), tuple, (() -> term) | nil) :: Wait.answer()
  def run_beside(%Target{} = target, op, work) do
    operation = elem(op, 0)
    # There is no key to look up.
    reopened = if operation == :attributes, do: :look, else: :never
    call = %__MODULE__{target: target, build: fn _keys -> {:ok, op} end, work: work}
    told(%{call | resolve: :never, reopened: reopened}, operation)
  end

  @doc """
  Runs the operation that `build` makes, again when the recovery table says so. `build` resolves
  the keys: from the cache, or afresh when the handles that the cache gave are stale.
  """
  @spec run(Target.t(), atom, build) :: Wait.answer()
  def run(%Target{} = target, operation, build),
    do: told(%__MODULE__{target: target, build: build}, operation)

  # A step of something begun before is never run again: after the failure there is nothing to go on with, and
  # a second answer would hide the first. A key that is digested is looked up again, as long as the token
  # was not asked.
  defp told(call, operation) when operation in @steps,
    do: tell(%{call | login: :never, resolve: 1, reopened: :never}, operation)

  defp told(call, operation), do: tell(call, operation)

  defp tell(call, operation),
    do: Events.call(fn -> metadata(call.target, operation) end, fn -> attempt(call) end)

  defp metadata(target, operation) do
    %{
      instance: Target.called(target),
      operation: operation,
      mechanism: target.mechanism,
      metadata: target.metadata
    }
  end

  defp attempt(%__MODULE__{build: build, keys: keys} = call) do
    case build.(keys) do
      {:ok, op} ->
        {result, times} = ran(call, op)
        answer(result, %{call | times: add(call.times, times)})

      # The epoch ended while the keys were looked up.
      {:error, %Error{reason: :stale_handle} = error} ->
        answer({:error, {:own, :stale_handle, error.detail}}, call)

      {:error, %Error{}} = error ->
        {error, call.times}
    end
  end

  defp ran(%__MODULE__{target: target, work: nil}, op),
    do: Wait.run(target.queue, op, target.deadline)

  defp ran(%__MODULE__{target: target, work: work}, op),
    do: Wait.run(target.queue, op, target.deadline, work)

  defp answer({:error, failure}, %__MODULE__{target: target} = call) do
    case {Recovery.action(failure), call} do
      {:login, %{login: 0}} ->
        case TokenServer.login(target) do
          :ok -> attempt(%{call | keys: :cached, login: 1})
          # The call itself was refused for want of a login.
          {:error, %Error{} = error} -> {{:error, %{error | executed: false}}, call.times}
        end

      {:reopened, %{reopened: 0}} ->
        attempt(%{call | keys: :fresh, reopened: 1})

      # By a handle that nobody here can look up again: whoever did so before does it again.
      {:reopened, %{reopened: :look}} ->
        error = Error.new(:stale_handle, "its session was opened anew")
        {{:error, error}, call.times}

      {{:resolve, limit}, %{resolve: n}} when is_integer(n) and n < limit ->
        attempt(%{call | keys: :fresh, resolve: n + 1})

      _answer ->
        {{:error, explained(failure, target)}, call.times}
    end
  end

  defp answer(result, call), do: {result, call.times}

  defp add({queue, device}, {more_queue, more_device}),
    do: {queue + more_queue, device + more_device}

  ## A session of one's own

  @doc "Takes a session out of the queue for this process."
  @spec lease(Target.t()) :: {:ok, Native.lease()} | {:error, Error.t()}
  def lease(%Target{} = target) do
    case Wait.lease(target.native, target.deadline) do
      {{:ok, leased}, _times} -> {:ok, leased}
      {{:error, failure}, _times} -> {:error, explained(failure, target)}
    end
  end

  ## Errors

  # The instance knows better than its queue why there is no token, and what keeps its sessions.
  defp explained({:own, reason, _detail} = failure, target)
       when reason in [:token_absent, :locked] do
    case Instances.refusal(target) do
      nil -> Wait.error(failure)
      refusal -> refusal
    end
  end

  defp explained({:timeout, :queued}, %Target{queue: queue, native: native} = target) do
    case Wait.inside(target.native) do
      _mine when queue != native ->
        Error.new(:timeout, "the session is still busy with a call before it", executed: false)

      %{sessions: {_function, age} = call} when age >= @noteworthy ->
        detail = "no session was free, nothing was executed: #{Wait.since(call)}"
        Error.new(:timeout, detail, executed: false)

      _nothing_hangs ->
        Wait.error({:timeout, :queued})
    end
  end

  defp explained(failure, _target), do: Wait.error(failure)
end

defmodule Cryptoki.Native.Wait do
  @moduledoc false
  # The one place that talks to `Cryptoki.Native`: the reference, the receive, the deadline.
  #
  # A caller whose deadline passes cancels its request. Exactly one side wins: either no message
  # will ever come, or it is certain to come and is received here. No mailbox sees a late reply.

  alias Cryptoki.{Bytes, Error, Native, Recovery}
  alias Cryptoki.Native.Loader

  @softhsm "the file that SOFTHSM2_CONF named when the VM was started, else " <>
             "~/.config/softhsm2/softhsm2.conf, else /etc/softhsm/softhsm2.conf"

  @type deadline :: integer | :infinity
  @type times :: {queue_ns :: non_neg_integer, device_ns :: non_neg_integer}
  @type answer :: :ok | {:ok, term} | {:error, Error.t()}
  @typedoc "As it came, and how long it took."
  @type result :: {:ok | {:ok, term} | {:error, failure}, times}
  @type failure :: Native.failure() | {:timeout, :queued | :running}

  @no_time {0, 0}
  # For what the process of a library is asked and takes it no time, unless it is stopped.
  @at_once 1_000
  @withdrawn "the library had not begun the login, no PIN was tried"

  @doc "The moment at which `timeout` milliseconds from now are over."
  @spec deadline(timeout) :: deadline
  def deadline(:infinity), do: :infinity
  def deadline(timeout), do: System.monotonic_time(:millisecond) + timeout

  @doc "The milliseconds left until then."
  @spec remaining(deadline) :: timeout
  def remaining(:infinity), do: :infinity
  def remaining(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  ## Queues

  @doc "Has a session of the queue, or the one that is leased, run an operation."
  @spec run(Native.instance() | Native.lease(), tuple, deadline) :: result
  def run(queue, op, deadline), do: await(&Native.submit(&1, queue, op), deadline)

  @doc """
  The same, and `{value, done}` in place of the value: what `work` has answered while the library was at it. It may be
  begun in vain.
  """
  @spec run(Native.instance() | Native.lease(), tuple, deadline, (() -> term)) :: result
  def run(queue, op, deadline, work) do
    submit = &Native.submit(&1, queue, op)

    case await(submit, deadline, &cancel/1, work) do
      {{:ok, value}, times, done} -> {{:ok, {value, done}}, times}
      {error_or_ok, times, _done} -> {error_or_ok, times}
    end
  end

  @doc "Takes a session out of the queue for the calling process."
  @spec lease(Native.instance(), deadline) :: result
  def lease(native, deadline), do: await(&Native.lease_session(&1, native), deadline)

  @doc "Gives it back."
  @spec give_back(Native.lease()) :: :ok
  def give_back(leased), do: Native.end_lease(leased)

  ## Libraries, tokens, sessions: for the processes that own them

  @doc "Loads the library that the start options name, and initialises it as they say."
  @spec open(map, deadline) :: {:ok, Native.library()} | {:error, Error.t()}
  def open(options, deadline) do
    with {:ok, isolation} <- isolation(options), do: open(options, isolation, deadline)
  end

  # Who is told a PIN is looked at before it is started.
  defp isolation(%{isolation: :none}), do: {:ok, nil}
  defp isolation(%{program: program, memory: memory}), do: {:ok, {program, memory}}

  defp isolation(options),
    do: with({:ok, options} <- with_program(options), do: isolation(options))

  @doc "The options with the program that a library with `isolation: :process` runs in, as it was built."
  @spec with_program(map) :: {:ok, map} | {:error, Error.t()}
  def with_program(%{isolation: :none} = options), do: {:ok, options}

  def with_program(options) do
    with {:ok, program} <- said(Loader.worker()), do: {:ok, Map.put(options, :program, program)}
  end

  @doc "Whether it is the same still: it is looked at before it is started again, as it was at first."
  @spec same_program(map) :: :ok | {:error, Error.t()}
  def same_program(%{isolation: :process, program: program}),
    do: said(Loader.same_worker(program))

  def same_program(_options), do: :ok

  defp said({:error, sentence}), do: {:error, Error.new(:library_not_loaded, sentence)}
  defp said(found), do: found

  defp open(options, isolation, deadline) do
    %{library: path, init_args: init_args, interface: interface, env: env} = options
    serialized = options.locking == :serialized

    case plain(
           &Native.open(&1, path, init_args, serialized, env, interface, isolation),
           deadline
         ) do
      # C_Initialize or one of its like has refused.
      {:error, %Error{code: code} = error} when code != nil ->
        {:error, Error.new(:library_not_loaded, refused(error, path))}

      {:error, %Error{reason: :timeout}} ->
        detail = "the library has not returned from being initialised, or from an earlier call"
        {:error, Error.new(:timeout, detail, executed: false)}

      library_or_error ->
        library_or_error
    end
  end

  # What libraries say, all in the same words, when they cannot read what they are configured by.
  defp refused(%Error{reason: :general_error, function: :C_Initialize} = error, path) do
    softhsm = if Path.basename(path) =~ "softhsm", do: "; SoftHSM's is #{@softhsm}", else: ""

    Error.answered(error) <>
      ": is its configuration there, and readable for this user#{softhsm}?"
  end

  defp refused(error, _path), do: Exception.message(error)

  @spec close(Native.library(), deadline) :: :ok | {:error, Error.t()}
  def close(library, deadline), do: asked(&Native.close(&1, library), library, deadline)

  @doc "Asks the library something for a caller: after all that instances need of it."
  @spec control(Native.library(), tuple, deadline) :: answer
  def control(library, op, deadline),
    do: asked(&Native.control(&1, library, op), library, deadline)

  @doc "Has the library do something for an instance."
  @spec job(Native.library(), tuple, deadline) :: answer
  def job(library, op, deadline), do: asked(&Native.job(&1, library, op), library, deadline)

  @doc "The calls that have been in a library for longest."
  @spec inside(Native.library() | Native.instance()) :: Native.inside()
  def inside(library_or_instance) do
    case plain(&Native.inside(&1, library_or_instance), deadline(@at_once)) do
      {:ok, inside} -> inside
      {:error, _nobody_to_say_it} -> %{control: nil, sessions: nil}
    end
  end

  @doc "Ends the process of a library that does not return."
  @spec kill(Native.library(), String.t()) :: :ok
  def kill(library, why) do
    _panic_or_ok = Native.kill(library, why)
    :ok
  end

  @doc """
  Logs in. Until the deadline the login can be withdrawn, if the library has not been given the PIN; else
  its answer is waited for without end. `Cryptoki.Recovery.tried/1` tells what an error says of the PIN.
  """
  @spec login(Native.instance(), map, binary | nil, deadline) :: :ok | {:error, Error.t()}
  def login(native, who, pin, deadline) do
    submit = &Native.login(&1, native, who.token_in_slot, who.user, pin, who.username)

    case await(submit, deadline, &withdraw/1) do
      {:ok, _times} ->
        :ok

      {{:error, {:timeout, :queued}}, _times} ->
        {:error, Error.new(:timeout, @withdrawn, executed: false)}

      {{:error, failure}, _times} ->
        {:error, error(failure)}
    end
  end

  @spec session_open(Native.instance(), Native.token_in_slot(), deadline) ::
          {:ok, Native.session()} | {:error, Error.t()}
  def session_open(native, token_in_slot, deadline) do
    with {:error, %Error{reason: :timeout}} <-
           plain(&Native.session_open(&1, native, token_in_slot), deadline) do
      detail = "the library did not return from opening a session"
      {:error, Error.new(:timeout, detail, function: :C_OpenSession, executed: false)}
    end
  end

  @spec session_close(Native.session(), deadline) :: :ok | {:error, Error.t()}
  def session_close(session, deadline), do: plain(&Native.session_close(&1, session), deadline)

  @doc "Gives up on a session that cleans up, or closes, for too long."
  @spec session_overdue(Native.session()) :: {:ok, :ok} | {:error, Error.t()}
  def session_overdue(session), do: session |> Native.session_overdue() |> at_once()

  # These answer at once; an error of theirs can only be a panic of the native code.
  @spec session_id(Native.session()) :: {:ok, integer} | {:error, Error.t()}
  def session_id(session), do: session |> Native.session_id() |> at_once()

  @spec instance_new(Native.library(), pos_integer) ::
          {:ok, Native.instance()} | {:error, Error.t()}
  def instance_new(library, queue_limit),
    do: library |> Native.instance_new(queue_limit) |> at_once()

  @spec instance_state(Native.instance(), :absent | :locked | :ready | :shutdown) ::
          {:ok, :ok} | {:error, Error.t()}
  def instance_state(native, state), do: native |> Native.instance_state(state) |> at_once()

  @spec instance_info(Native.instance()) :: {:ok, map} | {:error, Error.t()}
  def instance_info(native), do: native |> Native.instance_info() |> at_once()

  @spec bump_epoch(Native.instance()) :: {:ok, :ok} | {:error, Error.t()}
  def bump_epoch(native), do: native |> Native.bump_epoch() |> at_once()

  @doc "Whether a handle is that of its object, or the object is gone, or has another one perhaps."
  @spec standing(Native.instance(), Native.handle()) ::
          {:ok, :current | :gone | :unknown} | {:error, Error.t()}
  def standing(native, handle),
    do: plain(&Native.handle_standing(&1, native, handle), deadline(@at_once))

  defp at_once({:error, failure}), do: {:error, error(failure)}
  defp at_once(value), do: {:ok, value}

  @doc "What a native failure is to a user."
  @spec error(failure) :: Error.t()
  def error({:timeout, :queued}),
    do: Error.new(:timeout, "no session was free, nothing was executed", executed: false)

  def error({:timeout, :running}) do
    detail = "the library did not return from it, it may have been executed"
    Error.new(:timeout, detail, executed: :maybe)
  end

  def error(failure), do: Recovery.error(failure)

  defp plain(submit, deadline) do
    case await(submit, deadline) do
      {{:error, failure}, _times} -> {:error, error(failure)}
      {result, _times} -> result
    end
  end

  # On the control thread one comes after the other: what is in the library now is what it waits for.
  defp asked(submit, library, deadline) do
    case await(submit, deadline) do
      {{:error, {:timeout, state}}, _times} -> {:error, behind(state, inside(library).control)}
      {{:error, failure}, _times} -> {:error, error(failure)}
      {result, _times} -> result
    end
  end

  defp behind(:running, {_function, _age} = call), do: Recovery.of_look(not_returned(call))
  defp behind(:running, nil), do: error({:timeout, :running})

  defp behind(:queued, call) do
    detail = if call, do: since(call), else: "the library was busy with what was asked before"

    Error.new(:timeout, detail <> "; what was asked now was not begun", executed: false)
  end

  @doc "The error of a call that has not returned."
  @spec not_returned({atom, non_neg_integer}) :: Error.t()
  def not_returned({function, _age} = call),
    do: Error.new(:timeout, since(call), function: function, executed: :maybe)

  @doc "That it has not, as a sentence that stays true."
  @spec since({atom, non_neg_integer}) :: String.t()
  def since({function, age}) do
    then = DateTime.utc_now() |> DateTime.add(-age, :millisecond) |> DateTime.truncate(:second)
    "#{function} has not returned since #{then}"
  end

  ## The handshake

  defp await(submit, deadline, give_up \\ &cancel/1) do
    {result, times, nil} = await(submit, deadline, give_up, fn -> nil end)
    {result, times}
  end

  # The reference is made in the function of the receive: the VM then skips the old mailbox. It does get there, with what
  # is known at once, too: OTP 27 to 29 lose signals, and crash, where references are left behind while others send.
  defp await(submit, deadline, give_up, work) do
    ref = make_ref()

    {accepted, done} =
      case submitted(submit, ref) do
        {:error, failure} ->
          {known(ref, {:error, failure}, @no_time), nil}

        # It came while the NIF looked for it: no message does.
        {:answered, result, times} ->
          done = work.()
          {known(ref, result, times), done}

        accepted ->
          {accepted, meanwhile(work, ref, accepted)}
      end

    receive do
      {^ref, result, times} -> {granted(result, accepted), times, done}
    after
      remaining(deadline) ->
        case give_up.(elem(accepted, 1)) do
          :sent ->
            receive do
              {^ref, result, times} -> {granted(result, accepted), times, done}
            end

          {:error, failure} ->
            abandon(accepted)
            {{:error, failure}, @no_time, done}

          {state, times} ->
            abandon(accepted)
            {{:error, {:timeout, state}}, times, done}
        end
    end
  end

  defp known(ref, result, times) do
    send(self(), {ref, result, times})
    :known
  end

  # Whoever does not get as far as to wait for the answer is not sent one either.
  defp meanwhile(work, ref, accepted) do
    work.()
  catch
    kind, reason ->
      with :sent <- cancel(elem(accepted, 1)) do
        receive do: ({^ref, _result, _times} -> :ok)
      end

      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  # Native code that panicked has cancelled nothing, and a late reply would find this mailbox.
  defp cancel(request) do
    with {:error, _panic} <- Native.cancel(request), do: Native.cancel(request)
  end

  # Where nothing is known the PIN may have been tried: the answer is waited for.
  defp withdraw(request) do
    case Native.withdraw(request) do
      :queued -> {:queued, @no_time}
      _begun -> :sent
    end
  end

  # The stack trace of a refusal holds the arguments: data, PINs.
  defp submitted(submit, ref) do
    submit.(ref)
  rescue
    error -> reraise error, Enum.map(__STACKTRACE__, &Bytes.without_arguments/1)
  end

  defp granted(:ok, {:ok, _request, leased}), do: {:ok, leased}
  defp granted(result, _accepted), do: result

  defp abandon({:ok, _request, leased}), do: Native.end_lease(leased)
  defp abandon(_accepted), do: :ok
end

defmodule Cryptoki.Native do
  @moduledoc false
  # Stubs and nothing else. `Cryptoki.Native.Wait` is the only caller; the bodies are in
  # `native/cryptoki_nif`. Everything that takes a `ref` answers at once and sends
  # `{ref, :ok | {:ok, value} | {:error, failure}, {queue_ns, device_ns}}` to the caller later.

  # Not while it is being compiled: the loader may not be there yet.
  @compile {:autoload, false}
  @on_load :load

  alias Cryptoki.Native.Loader

  @type library :: reference
  @type instance :: reference
  @type session :: reference
  @type lease :: reference
  @type request :: reference
  @typedoc "The number of an object, and the life of the token and the generation in which it was given."
  @type handle ::
          {number :: non_neg_integer, life :: non_neg_integer, generation :: non_neg_integer}
  @typedoc "Manufacturer, model, serial number and label of a token."
  @type identity :: {String.t(), String.t(), String.t(), String.t()}
  @typedoc "Where sessions are opened, with no other token than that one."
  @type token_in_slot :: {slot :: non_neg_integer, identity, read_only :: boolean}

  @type class ::
          :session
          | :session_closed
          | :login
          | :absent
          | :operation_active
          | :pin
          | :device
          | :not_initialized
          | :other

  @typedoc "The calls that have been in the library for longest, with their milliseconds."
  @type inside :: %{
          control: {function :: atom, non_neg_integer} | nil,
          sessions: {function :: atom, non_neg_integer} | nil
        }
  @typedoc "Nanoseconds in the queue, and in the library."
  @type times :: {non_neg_integer, non_neg_integer}

  @type failure ::
          {:rv, code :: non_neg_integer, function :: atom, class}
          | {:own, reason :: atom, detail :: binary}

  # The VM wants load_nif/2 called by the module itself. Without the library the module stays, and
  # every call raises the sentence that says why. Where the library is in use already, the VM keeps the
  # module that it has: one loaded in its place would be without it.
  @doc false
  @spec load() :: :ok | {:error, {atom, charlist}}
  def load do
    with {:ok, path, info} <- Loader.find() do
      :erlang.load_nif(path, info)
    end
    |> Loader.done()
  end

  # The version of the crate, compared with ours when it is loaded.
  @spec version() :: binary
  def version, do: :erlang.nif_error(Loader.missing())

  # dlopen and C_Initialize, for one call at a time if `serialized`; in a process of that program, with so much
  # memory at most, unless `isolation` is nil. `{:ok, library}` comes.
  @spec open(
          reference,
          binary,
          binary | nil,
          boolean,
          [{binary, binary}],
          {byte, byte} | nil,
          {program :: binary, memory :: pos_integer | nil} | nil
        ) :: {:ok, request} | {:error, failure}
  def open(_ref, _path, _init_args, _serialized, _env, _interface, _isolation),
    do: :erlang.nif_error(Loader.missing())

  # Gives a library back; the last one to do so finalises it.
  @spec close(reference, library) :: {:ok, request} | {:error, failure}
  def close(_ref, _library), do: :erlang.nif_error(Loader.missing())

  # Runs an operation on the library's control thread, after all jobs of instances.
  @spec control(reference, library, tuple) :: {:ok, request} | {:error, failure}
  def control(_ref, _library, _op), do: :erlang.nif_error(Loader.missing())

  # The same as a job of an instance.
  @spec job(reference, library, tuple) :: {:ok, request} | {:error, failure}
  def job(_ref, _library, _op), do: :erlang.nif_error(Loader.missing())

  # The calls that are in the library: on its control thread, and of an instance's sessions. Answered at once, or by
  # the process of the library.
  @spec inside(reference, library | instance) ::
          {:answered, {:ok, inside}, times} | {:ok, request} | {:error, failure}
  def inside(_ref, _library_or_instance), do: :erlang.nif_error(Loader.missing())

  # Ends the process of a library that does not return; nothing where it has none.
  @spec kill(library, why :: binary) :: :ok | {:error, failure}
  def kill(_library, _why), do: :erlang.nif_error(Loader.missing())

  # A queue with its epoch and state, empty of sessions.
  @spec instance_new(library, pos_integer) :: instance
  def instance_new(_library, _queue_limit), do: :erlang.nif_error(Loader.missing())

  # What `submit/3` answers at once when the instance is not ready.
  @spec instance_state(instance, :absent | :locked | :ready | :shutdown) :: :ok
  def instance_state(_instance, _state), do: :erlang.nif_error(Loader.missing())

  # Counters of the queue and its sessions.
  @spec instance_info(instance) :: %{
          queue: non_neg_integer,
          sessions: non_neg_integer,
          busy: non_neg_integer,
          overdue: non_neg_integer,
          worked: non_neg_integer,
          failing: 0 | 1,
          epoch: non_neg_integer,
          epochs: non_neg_integer
        }
  def instance_info(_instance), do: :erlang.nif_error(Loader.missing())

  # Makes every handle given out before stale.
  @spec bump_epoch(instance) :: :ok
  def bump_epoch(_instance), do: :erlang.nif_error(Loader.missing())

  # Whether a handle is the one of its object, the object is gone, or it may have another handle by now.
  @spec handle_standing(reference, instance, handle) ::
          {:answered, {:ok, :current | :gone | :unknown}, times}
          | {:ok, request}
          | {:error, failure}
  def handle_standing(_ref, _instance, _handle), do: :erlang.nif_error(Loader.missing())

  # C_Login; a PIN of nil is the protected authentication path.
  @spec login(reference, instance, token_in_slot, non_neg_integer, binary | nil, binary | nil) ::
          {:ok, request} | {:error, failure}
  def login(_ref, _instance, _token_in_slot, _user, _pin, _username),
    do: :erlang.nif_error(Loader.missing())

  # Opens a session that serves the instance's queue; the caller owns it.
  @spec session_open(reference, instance, token_in_slot) :: {:ok, request} | {:error, failure}
  def session_open(_ref, _instance, _token_in_slot), do: :erlang.nif_error(Loader.missing())

  # The number that the messages about a session carry.
  @spec session_id(session) :: integer
  def session_id(_session), do: :erlang.nif_error(Loader.missing())

  # The owner gives up on a session that cleans up or closes; nothing if it does not.
  @spec session_overdue(session) :: :ok | {:error, failure}
  def session_overdue(_session), do: :erlang.nif_error(Loader.missing())

  # Closes a session after the call it is running.
  @spec session_close(reference, session) :: {:ok, request} | {:error, failure}
  def session_close(_ref, _session), do: :erlang.nif_error(Loader.missing())

  # Queues an operation; answers it, where the NIF has looked for the answer and it came: then no message does.
  @spec submit(reference, instance | lease, tuple) ::
          {:ok, request}
          | {:answered, :ok | {:ok, term} | {:error, failure}, times}
          | {:error, failure}
  def submit(_ref, _target, _op), do: :erlang.nif_error(Loader.missing())

  # Asks for a session of one's own; `:ok` comes when there is one.
  @spec lease_session(reference, instance) :: {:ok, request, lease} | {:error, failure}
  def lease_session(_ref, _instance), do: :erlang.nif_error(Loader.missing())

  # Gives the session back to the queue.
  @spec end_lease(lease) :: :ok
  def end_lease(_leased), do: :erlang.nif_error(Loader.missing())

  # Gives up: never executed, perhaps executed, or the message comes for certain.
  @spec cancel(request) :: {:queued | :running, times} | :sent | {:error, failure}
  def cancel(_request), do: :erlang.nif_error(Loader.missing())

  # Gives up what has not begun; `:running` when it has: then the message comes, if the library returns.
  @spec withdraw(request) :: :queued | :running | {:error, failure}
  def withdraw(_request), do: :erlang.nif_error(Loader.missing())
end

defmodule Cryptoki.Login do
  @moduledoc false
  # Logs in without ever handing over a PIN twice that is not known to be good: see `Cryptoki.Tries`.
  #
  # A login runs in a process of its own, one at a time for a token in the whole VM: two instances
  # that start with the same wrong PIN are one try, not two. It fetches the PIN there, which no other
  # process sees and no trace shows. Once the PIN is on its way to the library the process is nobody's: it
  # stays until the library has answered, also when nobody waits any more and when the application that
  # started the instance is stopped. What a slow token says about a PIN is not lost.

  alias Cryptoki.{Error, Events, Instances, Names, Pin, Recovery, Target, Tries}
  alias Cryptoki.Native.Wait

  # A person types it on the device.
  @protected_path_timeout 120_000
  @final_try "the token allows one more try, which is left to a person (Cryptoki.unlock/3)"

  @typedoc """
  How an instance is logged in: it has no PIN; it has one and the token wants none; the token took the
  PIN; or somebody in this VM had logged in already, and nobody looked at the PIN.
  """
  @type login :: :none | :not_wanted | :accepted | :shared
  @type trouble :: {:locked, Error.t()} | {:error, Error.t()}

  @doc """
  Logs in to the token in a slot. The context says with which PIN (`:pin`, a row of `Cryptoki.Instances`),
  whether a person has just given it (`:asked`) and whether they insist (`:force`).
  """
  @spec run(context :: map, non_neg_integer, token :: map) :: {:ok, login} | trouble
  def run(context, slot, token) do
    started = System.monotonic_time()
    result = fetched(context, slot, token)
    metadata = %{instance: context.name, result: outcome(result)}
    duration = System.monotonic_time() - started
    Events.event([:login], %{duration: duration}, metadata)
    result
  end

  defp fetched(context, slot, token) do
    if Pin.given?(Instances.get(context.instance, context.pin)),
      do: start(context, slot, token),
      else: {:ok, :none}
  end

  defp start(context, slot, token) do
    ref = make_ref()
    {_pid, monitor} = spawn_monitor(__MODULE__, :log_in, [self(), ref, context, slot, token])
    await(ref, monitor, :infinity)
  end

  defp await(ref, monitor, timeout) do
    receive do
      {^ref, :fetched, timeout} ->
        await(ref, monitor, timeout)

      {^ref, result} ->
        Process.demonitor(monitor, [:flush])
        result

      {:DOWN, ^monitor, :process, _pid, _reason} ->
        {:error, Error.new(:panic, "the login was ended")}
    after
      timeout -> {:error, Error.new(:timeout, "the login has not returned", executed: :maybe)}
    end
  end

  @doc "The process of a login."
  @spec log_in(pid, reference, map, non_neg_integer, map) :: term
  def log_in(caller, ref, context, slot, token) do
    Process.flag(:sensitive, true)
    # Until the PIN is there: somebody may be typing it.
    Process.link(caller)
    job = fn -> with_pin(caller, ref, context, slot, token) end
    send(caller, {ref, Pin.quietly("the login failed unexpectedly", job)})
  end

  @doc "Who insists on a PIN, and is logged in, has the token asked again for each use of a key that wants it."
  @spec forgive(Target.t(), Pin.t()) :: :ok | {:error, Error.t()}
  def forgive(%Target{instance: instance} = target, pin) do
    Pin.hidden(fn ->
      with {:ok, %{token: token}} <- Instances.facts(target),
           {:ok, secret} when secret != :none <- Pin.fetch(pin) do
        user = Instances.get(instance, :options).user

        Tries.forgive(Instances.identity(token), user, secret)
        forgive_use(token, user, secret)
      else
        {:error, error} -> {:error, error}
        _no_pin_or_no_token -> :ok
      end
    end)
  end

  # What the token refused at a use of a key it may take now.
  defp forgive_use(token, user, secret),
    do: Tries.forgive(Instances.identity(token), {:context, user}, secret)

  defp with_pin(caller, ref, context, slot, token) do
    with {:ok, secret} <- Pin.fetch(Instances.get(context.instance, context.pin)) do
      Process.unlink(caller)
      # An application takes all processes of its group with it.
      Process.group_leader(self(), Process.whereis(:init))

      timeout =
        if secret == :protected_path, do: @protected_path_timeout, else: context.options.timeout

      send(caller, {ref, :fetched, timeout})
      in_turn(context, slot, token, secret, Wait.deadline(timeout))
    end
  end

  defp in_turn(context, slot, token, secret, deadline) do
    user = context.options.user

    with :ok <- Instances.take_turn(token, deadline),
         # Whoever had the turn before may have used up a try; and another token may have come
         # while the PIN was typed.
         {:ok, token} <- Instances.still_there(context.library, slot, token, deadline),
         :ok <- tries_left(Names.flags(:token, token.flags), user, context.force),
         tries = Tries.of(Instances.identity(token), user, secret),
         {:ok, before} <- hand(tries, insists?(context, secret), deadline) do
      result = hand_over(context, slot, token, secret, deadline)
      answer = answered(result, tries, before)
      if context.force and answer == {:ok, :accepted}, do: forgive_use(token, user, secret)
      answer
    end
  end

  # Nobody knows what will be typed at a keypad: who asks for it gets it.
  defp insists?(%{force: true}, _secret), do: true
  defp insists?(context, secret), do: context.asked and secret == :protected_path

  # A wait that was too long has said nothing about the PIN.
  defp hand(tries, insists, deadline) do
    case Tries.hand(tries, insists, deadline) do
      {:error, %Error{reason: :timeout}} = error -> error
      {:error, refused} -> {:locked, refused}
      handed -> handed
    end
  end

  defp hand_over(context, slot, token, secret, deadline) do
    {code, username} = user(context.options.user)
    token_in_slot = {slot, Instances.identity(token), context.options.read_only}
    who = %{token_in_slot: token_in_slot, user: code, username: username}
    pin = if secret == :protected_path, do: nil, else: secret
    Wait.login(context.native, who, pin, deadline)
  end

  defp answered(:ok, tries, before) do
    Tries.answered(tries, before, :accepted, nil)
    {:ok, :accepted}
  end

  defp answered({:error, error}, tries, before) do
    again = Tries.answered(tries, before, Recovery.tried(error), error.code)

    cond do
      already?(error) -> {:ok, :shared}
      again -> {:error, error}
      true -> {:locked, error}
    end
  end

  # The same from a function that is no login has nothing to do with one.
  defp already?(%Error{reason: reason, function: function}),
    do: reason == :user_already_logged_in and function in [:C_Login, :C_LoginUser]

  defp user({:named, name}), do: {Names.code!(:user, :user), name}
  defp user(user), do: {Names.code!(:user, user), nil}

  defp tries_left(_flags, _user, true), do: :ok

  defp tries_left(flags, user, false) do
    {locked, final_try} =
      if user == :so,
        do: {:so_pin_locked, :so_pin_final_try},
        else: {:user_pin_locked, :user_pin_final_try}

    cond do
      locked in flags -> {:locked, Error.new(:pin_locked, "the token says so; no PIN was tried")}
      final_try in flags -> {:locked, Error.new(:locked, @final_try)}
      true -> :ok
    end
  end

  defp outcome({:ok, _login}), do: :ok
  defp outcome({_trouble, error}), do: error.reason
end

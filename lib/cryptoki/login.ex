defmodule Cryptoki.Login do
  @moduledoc false
  # Logs in without ever trying a PIN twice that the token has refused.
  #
  # A login runs in a process of its own, one at a time for a token in the whole VM: two instances
  # that start with the same wrong PIN are one try, not two. Once the library has the PIN the process
  # stays until it has answered, also when nobody waits any more: what a slow token says about a PIN is
  # not lost.

  alias Cryptoki.{Error, Instances, Names, Pin, Request, Telemetry}

  # A person types it on the device.
  @protected_path_timeout 120_000
  @final_try "the token allows one more try, which is left to a person (Cryptoki.unlock/3)"

  @type trouble :: {:locked, Error.t()} | {:error, Error.t()}

  @doc "Logs in to the token in a slot; false when the instance has no PIN."
  @spec run(context :: map, non_neg_integer, token :: map) ::
          {:ok, logged_in :: boolean} | trouble
  def run(context, slot, token) do
    started = System.monotonic_time()
    result = fetch(context, slot, token)
    metadata = %{instance: context.name, result: outcome(result)}
    duration = System.monotonic_time() - started
    Telemetry.event([:login], %{duration: duration}, metadata)
    result
  end

  defp fetch(context, slot, token) do
    case Pin.fetch(Instances.pin(context.instance)) do
      {:ok, :none} -> {:ok, false}
      {:ok, secret} -> start(context, slot, token, secret)
      {:error, _error} = error -> error
    end
  end

  defp start(context, slot, token, secret) do
    timeout =
      if secret == :protected_path, do: @protected_path_timeout, else: context.options.timeout

    deadline = Request.deadline(timeout)
    caller = self()
    ref = make_ref()

    {_pid, monitor} =
      spawn_monitor(fn ->
        Process.flag(:sensitive, true)
        send(caller, {ref, quietly(fn -> in_turn(context, slot, token, secret, deadline) end)})
      end)

    receive do
      {^ref, result} ->
        Process.demonitor(monitor, [:flush])
        result

      {:DOWN, ^monitor, :process, _pid, _reason} ->
        {:error, Error.new(:panic, "the login was ended")}
    after
      timeout -> {:error, Error.new(:timeout, "the login has not returned", executed: :maybe)}
    end
  end

  # What was raised, or where, could show a PIN.
  defp quietly(job) do
    job.()
  catch
    _kind, _reason -> {:error, Error.new(:panic, "the login failed unexpectedly")}
  end

  defp in_turn(context, slot, token, secret, deadline) do
    user = context.options.user

    with :ok <- Instances.take_turn(token, deadline),
         # Whoever had the turn before may have used up a try; and another token may have come
         # while the PIN was typed.
         {:ok, token} <- Instances.still_there(context.library, slot, token, deadline),
         :ok <- tries_left(flags(token), user, context.force),
         :ok <- not_refused(token, user, secret, context.force),
         do: hand_over(context, slot, token, secret, deadline)
  end

  defp hand_over(context, slot, token, secret, deadline) do
    user = context.options.user
    {code, username} = user(user)
    place = {slot, Instances.identity(token), context.options.read_only}
    who = %{place: place, user: code, username: username}
    refused = Instances.refusal(token, user, secret)
    pin = if secret == :protected_path, do: nil, else: secret

    case Request.login(context.native, who, pin, deadline) do
      :ok ->
        {:ok, true}

      {:error, %Error{reason: :user_already_logged_in}} ->
        {:ok, true}

      {:refused, error} ->
        Instances.refuse(refused)
        {:locked, error}

      {:error, error} ->
        {:error, error}
    end
  end

  defp user(:user), do: {code(:user), nil}
  defp user(:so), do: {code(:so), nil}
  defp user({:named, name}), do: {code(:user), name}

  defp code(user) do
    {:ok, code} = Names.code(:user, user)
    code
  end

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

  defp not_refused(_token, _user, _secret, true), do: :ok

  defp not_refused(token, user, secret, false) do
    if Instances.refused?(token, user, secret) do
      {:locked,
       Error.new(:pin_incorrect, "the token has refused it before, it was not tried again")}
    else
      :ok
    end
  end

  defp outcome({:ok, _logged_in}), do: :ok
  defp outcome({_trouble, error}), do: error.reason

  defp flags(token), do: Names.flags(:token, token.flags)
end

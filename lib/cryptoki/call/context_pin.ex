defmodule Cryptoki.ContextPin do
  @moduledoc false
  # The context-specific login (PKCS #11 v3.2, section 5.6.8) that a key with CKA_ALWAYS_AUTHENTICATE
  # wants at each use: with the `pin:` of the call, else with the one of the instance, fetched in
  # the process that calls. The instance's is handed over again only while the token takes it: see
  # `Cryptoki.Tries`. While there is a PIN no trace of the process shows what it does.

  alias Cryptoki.{Error, Instances, Pin, Recovery, Target, Traits, Tries}

  @type t :: nil | binary | :protected

  # The only operations that such keys ask for it (section 4.10).
  @private_use ~w[sign decrypt sign_recover message_sign message_decrypt]a

  @doc "Runs an operation with the PIN that it needs, nil when it needs none."
  @spec run(Target.t(), map, (t -> answer)) :: answer | {:error, Error.t()} when answer: term
  def run(_target, %{options: %{pin: %Pin{} = pin}}, operation) do
    Pin.hidden(fn -> with {:ok, secret} <- Pin.fetch(pin), do: operation.(wire(secret)) end)
  end

  def run(target, %{kind: kind, wanted: wanted}, operation)
      when kind in @private_use and wanted != nil do
    with true <- Traits.always_authenticate?(target, wanted),
         %Pin{} = pin <- Instances.get(target.instance, :pin),
         {:ok, %{logged_in: true, token: token}} <- Instances.facts(target) do
      Pin.hidden(fn ->
        with {:ok, secret} when secret != :none <- Pin.fetch(pin) do
          handed(target, token, secret, operation)
        else
          {:ok, :none} -> operation.(nil)
          error -> error
        end
      end)
    else
      {:error, %Error{}} = error -> error
      _not_needed_or_not_there -> operation.(nil)
    end
  end

  def run(_target, _call, operation), do: operation.(nil)

  # The login of the instance and the login for a use are answered for themselves, and refused for both.
  defp handed(target, token, secret, operation) do
    identity = Instances.identity(token)
    user = Instances.get(target.instance, :options).user
    login = Tries.of(identity, user, secret)
    use = Tries.of(identity, {:context, user}, secret)

    with :ok <- Tries.allowed(login),
         {:ok, before} <- if(Tries.good?(use), do: {:ok, :good}, else: hand(use, target)) do
      answer = operation.(wire(secret))
      unless answered(use, before, answer), do: Tries.refuse(login, code(answer))
      answer
    end
  end

  # The first that comes tries it, the others wait for what it hears.
  defp hand(use, target), do: Tries.hand(use, false, target.deadline)

  defp answered(use, :good, answer), do: Tries.used(use, tried(answer, :not_tried), code(answer))

  defp answered(use, before, answer),
    do: Tries.answered(use, before, tried(answer, :doubtful), code(answer))

  defp tried({:error, %Error{reason: :timeout, executed: :maybe}}, unheard), do: unheard
  defp tried({:error, error}, _unheard), do: Recovery.tried(error)
  defp tried(_ok, _unheard), do: :accepted

  defp code({:error, error}), do: error.code
  defp code(_ok), do: nil

  defp wire(:protected_path), do: :protected
  defp wire(:none), do: nil
  defp wire(secret), do: secret
end

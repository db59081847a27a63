defmodule Cryptoki.ContextPin do
  @moduledoc false
  # The context-specific login (PKCS #11 v3.2, section 5.6.8) that a key with CKA_ALWAYS_AUTHENTICATE
  # wants at each use: with the `pin:` of the call, else with the one of the instance, fetched in
  # the process that calls. A PIN that was refused once is not tried again by itself.

  alias Cryptoki.{Error, Instances, Pin, Target, Traits}

  @type t :: nil | binary | :protected

  # The only operations that such keys ask for it (section 4.10).
  @private_use ~w[sign decrypt sign_recover message_sign message_decrypt]a

  @doc "The PIN that an operation of this kind with this key needs, nil when it needs none."
  @spec fetch(Target.t(), map) :: {:ok, t} | {:error, Error.t()}
  def fetch(_target, %{options: %{pin: %Pin{} = pin}}), do: wire(Pin.fetch(pin))

  def fetch(target, %{kind: kind, wanted: wanted}) when kind in @private_use and wanted != nil do
    with true <- Traits.always_authenticate?(target, wanted),
         %Pin{} = pin <- Instances.pin(target.instance),
         %{logged_in: true, token: token} <- Instances.get(target.instance, :facts),
         {:ok, secret} <- Pin.fetch(pin),
         :ok <- not_refused(token, user(target), secret) do
      wire({:ok, secret})
    else
      {:error, %Error{}} = error -> error
      _not_needed_or_not_there -> {:ok, nil}
    end
  end

  def fetch(_target, _call), do: {:ok, nil}

  @doc "Runs an operation with the PIN; remembers that the token refused the instance's own."
  @spec run(Target.t(), map, (t -> answer)) :: answer | {:error, Error.t()} when answer: term
  def run(target, call, operation) do
    with {:ok, pin} <- fetch(target, call) do
      case operation.(pin) do
        {:error, %Error{reason: :pin_incorrect, function: :C_Login}} = error ->
          if call.options[:pin] == nil, do: refuse(target, pin)
          error

        answer ->
          answer
      end
    end
  end

  defp refuse(target, pin) do
    with %{token: token} <- Instances.get(target.instance, :facts),
         do: Instances.refuse(token, user(target), secret(pin))
  end

  defp not_refused(token, user, secret) do
    if Instances.refused?(token, user, secret) do
      detail = "the token has refused it before, it was not tried again"
      {:error, Error.new(:pin_incorrect, detail, executed: false)}
    else
      :ok
    end
  end

  defp user(target), do: Instances.get(target.instance, :options).user

  defp wire({:ok, :protected_path}), do: {:ok, :protected}
  defp wire({:ok, :none}), do: {:ok, nil}
  defp wire(pin_or_error), do: pin_or_error

  defp secret(:protected), do: :protected_path
  defp secret(pin), do: pin
end

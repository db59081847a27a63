defmodule Cryptoki.Unlock do
  @moduledoc false
  # Another PIN for an instance; on another node only one that is fetched there.

  alias Cryptoki.{Error, HSM, Options, Pin, TokenServer}

  @spec unlock(term, Cryptoki.pin(), keyword | map) :: :ok | {:error, Error.t()}
  def unlock(hsm, pin, opts) do
    options = Options.call!(opts, [:timeout, :force])
    pin = Pin.wrap(pin)

    with {:ok, target} <- HSM.target(hsm, options),
         do: TokenServer.unlock(target, pin, options.force)
  end

  @doc "That no PIN leaves its node: what it is fetched with may."
  @spec stays(term, term) :: :ok | {:error, Error.t()}
  def stays(hsm, pin) do
    if HSM.here?(hsm) or HSM.group(hsm) != nil or fetched_there?(pin) do
      :ok
    else
      detail =
        "a PIN does not leave its node: give {module, function, arguments}, &Module.function/0, {:env, name} " <>
          "or {:file, path}, which are looked at there"

      {:error, Error.new(:unsupported, detail)}
    end
  end

  defp fetched_there?({kind, _where}) when kind in [:env, :file], do: true

  defp fetched_there?({module, function, arguments}),
    do: is_atom(module) and is_atom(function) and is_list(arguments)

  # What a local function carries with it may be the PIN.
  defp fetched_there?(fun) when is_function(fun, 0),
    do: Function.info(fun, :type) == {:type, :external}

  defp fetched_there?(pin), do: pin in [nil, :protected_path]
end

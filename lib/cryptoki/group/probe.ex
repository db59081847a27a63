defmodule Cryptoki.Group.Probe do
  @moduledoc false
  # What a group wants to know of a member, on the member's node.

  alias Cryptoki.{Call, Error, HSM, Instance, Recovery}
  alias Cryptoki.Group.Failure

  @typedoc "`name` is what it is reached by, `instance` the pid of which its keys are."
  @type about :: %{
          name: atom | pid,
          instance: pid,
          state: :ready | :absent | :locked,
          health: atom,
          reason: Error.t() | nil,
          sessions: map,
          queue: non_neg_integer,
          token: map | nil,
          login: atom,
          timeout: timeout,
          oldest_call: map | nil
        }

  @doc "How it is; asks no token."
  @spec look(term, keyword) :: {:ok, about} | {:error, Error.t()}
  def look(hsm, opts) do
    with {:ok, target} <- HSM.target(hsm, Map.new(opts)),
         {:ok, status} <- Instance.status(target) do
      {:ok,
       Map.merge(Map.delete(status, :epoch), %{
         name: target.name || target.instance,
         instance: target.instance,
         timeout: target.timeout
       })}
    end
  end

  @doc "The same of one whose token answers: a few random bytes are what every token has, and harms none."
  @spec answers(term, keyword) :: {:ok, about} | {:error, Error.t()}
  def answers(hsm, opts) do
    with {:ok, %{state: :ready} = about} <- look(hsm, opts),
         {:ok, target} <- HSM.target(hsm, Map.new(opts)),
         :ok <- well(Call.run(target, {:random, 8})) do
      {:ok, about}
    else
      {:ok, about} -> {:error, refusal(about)}
      {:error, _error} = error -> error
    end
  end

  @doc "Why one takes no calls, or none of them comes back; nil when it does."
  @spec refusal(about) :: Error.t() | nil
  def refusal(%{state: :ready, health: :unresponsive, reason: error}), do: error
  def refusal(%{state: :ready}), do: nil
  def refusal(%{state: state, reason: error}), do: Recovery.refused(state, error)

  defp well({:ok, _bytes}), do: :ok

  # One without a generator says so, and one that has much to do.
  defp well({:error, error}),
    do: if(Failure.of(error) in [:call, :full], do: :ok, else: {:error, error})
end

defmodule Cryptoki.OwnIV do
  @moduledoc false
  # Encryption with an IV that the token chooses: in the form that it is known to take, else in each
  # there is. A token that takes the zeros it is given as they are has chosen nothing, and what it
  # made of them is given to nobody.

  alias Cryptoki.{Error, Instances, Target}
  alias Cryptoki.Mechanism.IV

  # What tokens say to a parameter that they do not take.
  @other_form [:mechanism_param_invalid, :arguments_bad]

  @doc """
  Runs `work` with the mechanism in each form, until `chosen` finds an IV in what it gave.
  """
  @spec run(Target.t(), map, (term -> {:ok, term} | {:error, Error.t()}), (term -> answer)) ::
          answer
        when answer: {:ok, term} | :none | {:error, Error.t()}
  def run(target, call, work, chosen) do
    Enum.reduce_while(forms(target, call.iv), {:error, IV.none()}, fn form, none ->
      with {:ok, result} <- work.(call.encode.(form)),
           {:ok, answer} <- chosen.(result) do
        learn(target, form)
        {:halt, {:ok, answer}}
      else
        {:error, %Error{reason: reason}} when reason in @other_form -> {:cont, none}
        :none -> {:cont, none}
        {:error, _error} = error -> {:halt, error}
      end
    end)
  end

  defp forms(target, iv) do
    known = Instances.get(target.instance, :own_iv)
    all = IV.forms(iv)
    if known in all, do: [known | List.delete(all, known)], else: all
  end

  # Zeros are tried first in any case; and that they are taken says nothing before the end.
  defp learn(target, form) do
    known = Instances.get(target.instance, :own_iv) || :over
    if form != known, do: Instances.put(target.instance, :own_iv, form)
  end
end

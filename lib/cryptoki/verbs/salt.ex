defmodule Cryptoki.Salt do
  @moduledoc false
  # Whether a token gives signatures by PSS the salt that it was asked for, which JWS (RFC 7518, section
  # 3.5), TLS and certificates rely on. Looked at once for a key and a length: it always does, or never.

  alias Cryptoki.{Error, Keys, SignatureForm, Target}
  alias Cryptoki.Prehash.RSA

  @doc "`:ok`, also when nothing can be said; else the error of a signature with another salt."
  @spec check(Target.t(), map, SignatureForm.t(), binary) :: :ok | {:error, Error.t()}
  def check(
        target,
        %{named: named, mechanism: {{_code, parameter}, _keys}} = call,
        form,
        signature
      )
      when is_atom(named) do
    with true <- named |> Atom.to_string() |> String.ends_with?("rsa_pkcs_pss"),
         {:rsa, modulus, exponent} when exponent != nil <- form,
         [ulong: _hash, ulong: _generator, ulong: asked] <- parameter,
         what = {:salt, parameter},
         :error <- Keys.learned(target, call.wanted, what) do
      case RSA.salt_size(signature, parameter, modulus, exponent) do
        {:ok, ^asked} -> Keys.learn(target, call.wanted, what, true)
        {:ok, other} -> wrong("its salt has #{other} bytes, not the #{asked} that were asked for")
        :error -> wrong("it is none by PSS with this hash and mask generation function")
      end
    else
      _nothing_to_look_at -> :ok
    end
  end

  def check(_target, _call, _form, _signature), do: :ok

  defp wrong(detail),
    do: {:error, Error.new(:module_misbehaved, "the signature: " <> detail, function: :C_Sign)}
end

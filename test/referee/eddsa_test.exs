defmodule Cryptoki.Referee.EddsaTest do
  use Cryptoki.Test.Referee, async: true

  # EdDSA: the examples of RFC 8032, :crypto and OpenSSL.

  alias Cryptoki.Attribute.Curve

  @examples Path.join(__DIR__, "vectors/rfc8032.txt")
            |> File.stream!()
            |> Enum.reject(&String.starts_with?(&1, "#"))
            |> Enum.map(&String.split/1)
            |> Enum.group_by(&{hd(&1), Enum.at(&1, 4) != "-"})

  # Kryoptic wants the parameter for Ed448 (PKCS #11 v3.2, section 6.3.16). SoftHSM reads no parameter.
  @schemes [
    {"Ed25519", false, :ed25519, []},
    {"Ed25519ctx", true, :edwards25519, [prehash: false]},
    {"Ed25519ph", false, :edwards25519, [prehash: true]},
    {"Ed448", false, :ed448, [prehash: false]},
    {"Ed448", true, :edwards448, [prehash: false]},
    {"Ed448ph", false, :edwards448, [prehash: true]},
    {"Ed448ph", true, :edwards448, [prehash: true]}
  ]

  on_each_token do
    for {scheme, context?, curve, parameters} <- @schemes do
      pure? = scheme in ["Ed25519", "Ed448"] and not context?
      ignores = "signs as if there were no context and no prehash"

      check "RFC 8032: #{scheme}#{if context?, do: " with context"}",
            [eddsa: [:sign, :verify]],
            [except: if(pure?, do: [], else: [softhsm2: ignores])],
            %{hsm: hsm} do
        examples = unquote(@examples[{scheme, context?}])

        for [_scheme, secret, public, message, context, signature] <- examples do
          context = from(context)
          mechanism = mechanism(unquote(parameters), context)
          private = private(hsm, unquote(curve), from(secret))
          public = public(hsm, unquote(curve), from(public))
          message = from(message)
          signature = from(signature)

          assert Cryptoki.sign!(hsm, private, mechanism, message) == signature
          assert Cryptoki.verify(hsm, public, mechanism, message, signature) == :ok
          assert_refused(Cryptoki.verify(hsm, public, mechanism, message, flip(signature)))
        end
      end
    end

    for {curve, mechanism} <- [ed25519: :eddsa, ed448: {:eddsa, prehash: false}] do
      check "#{curve} against :crypto and OpenSSL",
            [:ec_edwards_key_pair_gen, eddsa: [:sign, :verify]],
            %{hsm: hsm} do
        {curve, mechanism} = {unquote(curve), unquote(mechanism)}

        {public, private} =
          Cryptoki.generate_key_pair!(hsm, :ec_edwards_key_pair_gen, curve: curve)

        public_key = Cryptoki.public_key!(hsm, public)
        {{:ECPoint, point}, _parameters} = public_key

        {outside_point, seed} = :crypto.generate_key(:eddsa, curve)
        imported = private(hsm, curve, seed)
        imported_public = public(hsm, curve, outside_point)

        for size <- sizes(), data = bytes(size) do
          signature = Cryptoki.sign!(hsm, private, mechanism, data)
          assert :crypto.verify(:eddsa, :none, data, signature, [point, curve])
          assert Cryptoki.verify(hsm, public, mechanism, data, signature) == :ok
          assert_refused(Cryptoki.verify(hsm, public, mechanism, data, flip(signature)))
          refute Cryptoki.valid?(hsm, public, mechanism, [data, 0], signature)

          # There is nothing by chance in EdDSA.
          signature = :crypto.sign(:eddsa, :none, data, [seed, curve])
          assert Cryptoki.sign!(hsm, imported, mechanism, data) == signature
          assert Cryptoki.verify(hsm, imported_public, mechanism, data, signature) == :ok
        end

        signature = Cryptoki.sign!(hsm, private, mechanism, "text")
        assert OpenSSL.valid?(public_key, signature, :eddsa, "text")
        refute OpenSSL.valid?(public_key, signature, :eddsa, "test")
      end
    end
  end

  defp mechanism([], ""), do: :eddsa
  defp mechanism(parameters, context), do: {:eddsa, parameters ++ [context: context]}

  defp private(hsm, curve, seed) do
    Cryptoki.create!(hsm,
      class: :private_key,
      key_type: :ec_edwards,
      curve: curve,
      value: seed,
      sign: true
    )
  end

  defp public(hsm, curve, point) do
    Cryptoki.create!(hsm,
      class: :public_key,
      key_type: :ec_edwards,
      curve: curve,
      ec_point: Curve.wrap_point(point),
      verify: true
    )
  end

  defp from("-"), do: ""
  defp from(digits), do: hex(digits)
end

defmodule Cryptoki.PointBytesTest do
  # The public key of an Edwards or Montgomery curve is bytes by chance: one in 256 begins as the point of another curve
  # does, or as DER. Such a key is one like others.
  use ExUnit.Case, async: true

  alias Cryptoki.{JWK, JWS, SSH, X509}
  alias Cryptoki.PrivateKey.File
  alias Cryptoki.Test.{MainToken, OpenSSL}

  @beginnings [2, 3, 4, 0x30]
  # The end of the object identifier of each, the bytes of a value (RFC 8410), and how it signs.
  @curves [ed25519: {112, 32, :eddsa}, ed448: {113, 57, {:eddsa, prehash: false}}]

  setup_all do
    %{hsm: start_supervised!({Cryptoki, MainToken.options(sessions: 2)})}
  end

  for {curve, {last, size, mechanism}} <- @curves, first <- @beginnings do
    @tag skip: MainToken.lacks_key(curve)
    test "#{curve} whose point begins with #{first}", %{hsm: hsm} do
      {point, value} = beginning(:eddsa, unquote(curve), unquote(first))
      public = {{:ECPoint, point}, {:namedCurve, {1, 3, 101, unquote(last)}}}
      label = "#{unquote(curve)} #{System.unique_integer([:positive])}"
      file = pkcs8(unquote(last), unquote(size), value)
      assert {:ok, key} = Cryptoki.import_key(hsm, file, label: label, id: label)
      assert Cryptoki.public_key(hsm, key) == {:ok, public}
      signature = Cryptoki.sign!(hsm, key, unquote(Macro.escape(mechanism)), "text")
      assert OpenSSL.valid?(public, signature, :eddsa, "text")

      # By themselves, and by what programs make of them.
      assert {:ok, jwk} = JWK.from_public_key(public)
      assert JWK.to_public_key(jwk) == {:ok, public}
      assert {:ok, jws} = JWS.sign(hsm, key, "text")
      assert {:ok, %{payload: "text"}} = JWS.verify({:jwks, [jwk]}, jws)
      assert {:ok, root} = X509.self_signed(hsm, key, subject: "/CN=point")
      assert X509.verify_signature(hsm, root, root) == :ok
      assert {:ok, %{public_key: ^public}} = X509.certificate(root)

      if unquote(curve) == :ed25519 do
        assert {:ok, "ssh-ed25519 " <> _} = SSH.public_key(hsm, key)
      end
    end
  end

  for {curve, {last, size}} <- [x25519: {110, 32}, x448: {111, 56}], first <- @beginnings do
    test "#{curve} whose point begins with #{first}" do
      {point, value} = beginning(:ecdh, unquote(curve), unquote(first))
      public = {{:ECPoint, point}, {:namedCurve, {1, 3, 101, unquote(last)}}}
      file = pkcs8(unquote(last), unquote(size), value)
      assert {:ok, %{public: ^public}} = File.read(file)
      assert {:ok, jwk} = JWK.from_public_key(public)
      assert JWK.to_public_key(jwk) == {:ok, public}
    end
  end

  defp beginning(kind, curve, first) do
    case :crypto.generate_key(kind, curve) do
      {<<^first, _::binary>>, _value} = pair -> pair
      _another -> beginning(kind, curve, first)
    end
  end

  defp pkcs8(last, size, value) do
    inner = <<4, size + 2, 4, size>> <> value
    contents = <<2, 1, 0, 0x30, 5, 6, 3, 43, 101, last>> <> inner
    <<0x30, byte_size(contents)>> <> contents
  end
end

defmodule Cryptoki.X509DeltaTest do
  use ExUnit.Case, async: true

  # Lists that say what is new since another, judged by `openssl verify -use_deltas`.

  alias Cryptoki.{Error, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch}

  @at ~U[2026-01-02 03:04:05Z]
  @url "http://pki.acme.test/delta.crl"

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:secp256r1, :secp384r1])
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=deltas", ca: true)
    context = %{hsm: hsm, keys: keys, ca: keys.secp256r1, root: root}

    leaf =
      &X509.certify!(hsm, keys.secp256r1, root, keys.secp384r1, subject: "/CN=leaf", serial: &1)

    Map.put(context, :leaves, Map.new(1..3, &{&1, leaf.(&1)}))
  end

  defp crl(context, revoked, opts),
    do: X509.crl(context.hsm, context.ca, context.root, revoked, opts)

  defp crl!(context, revoked, opts) do
    {:ok, der} = crl(context, revoked, opts)
    der
  end

  # Whether OpenSSL takes the leaf with this number, with these lists.
  defp valid?(context, serial, lists) do
    Scratch.within("deltas", fn directory ->
      root = Scratch.write(directory, "root.pem", X509.to_pem(context.root))
      lists = Scratch.write(directory, "lists.pem", X509.to_pem(lists))
      leaf = Scratch.write(directory, "leaf.pem", X509.to_pem(context.leaves[serial]))
      check = ~w(verify -crl_check -extended_crl -use_deltas -CAfile #{root} -CRLfile #{lists})
      {text, status} = OpenSSL.openssl(check ++ [leaf])
      if status != 0, do: assert(text =~ "certificate revoked")
      status == 0
    end)
  end

  test "what is new since a whole one is taken by OpenSSL, and back again", context do
    whole = crl!(context, [{1, @at, :certificate_hold}], number: 5, delta_crl_urls: @url)
    revoked = [{1, @at, :remove_from_crl}, {2, @at, :key_compromise}]

    for {base, opts} <- [
          {whole, []},
          {X509.to_pem(whole), []},
          {5, [number: 6]},
          {whole, [previous: whole]}
        ] do
      delta = crl!(context, revoked, [delta: base] ++ opts)
      assert {:ok, list} = X509.revocation_list(delta)
      assert %{base_number: 5, number: number, revoked: ^revoked} = list
      assert number > 5
      assert {{2, 5, 29, 27}, <<2, 1, 5>>, critical: true} in list.extensions

      for {serial, alone, both} <- [{1, false, true}, {2, true, false}, {3, true, true}] do
        assert valid?(context, serial, [whole]) == alone
        assert valid?(context, serial, [whole, delta]) == both
      end
    end

    # With the places of both.
    places = [crl_urls: "http://pki.acme.test/crl", ca_issuers_url: "http://pki.acme.test/ca"]
    whole = crl!(context, [], places ++ [number: 5, delta_crl_urls: [@url, @url <> "2"]])
    delta = crl!(context, [{2, @at}], places ++ [delta: whole])

    Scratch.within("deltas", fn directory ->
      text = fn der ->
        file = Scratch.write(directory, "list", der)
        {text, 0} = OpenSSL.openssl(~w(crl -noout -text -inform DER -in #{file}))
        text
      end

      assert text.(whole) =~
               ~r/X509v3 Freshest CRL: *\n.*Full Name:\n +URI:#{@url}\n +URI:#{@url}2\n/

      refute text.(whole) =~ "Delta CRL Indicator"
      assert text.(delta) =~ ~r/X509v3 Delta CRL Indicator: critical\n +0?5\n/
      assert text.(delta) =~ "X509v3 Issuing Distribution Point: critical"
      refute text.(delta) =~ "Freshest"
    end)
  end

  test "certificates say where they are", %{hsm: hsm, ca: ca, root: root, keys: keys} do
    opts = [subject: "/CN=leaf", delta_crl_urls: @url]
    leaf = X509.certify!(hsm, ca, root, keys.secp384r1, opts)

    Scratch.within("deltas", fn directory ->
      file = Scratch.write(directory, "leaf", leaf)
      {text, 0} = OpenSSL.openssl(~w(x509 -noout -text -inform DER -in #{file}))
      assert text =~ ~r/X509v3 Freshest CRL: *\n.*Full Name:\n +URI:#{@url}\n/
    end)
  end

  test "the list before is a whole one of this authority, with a lesser number", context do
    %{hsm: hsm, keys: keys, ca: ca} = context
    whole = crl!(context, [], number: 5)
    delta = crl!(context, [], delta: whole)
    other = X509.self_signed!(hsm, ca, subject: "/CN=other", ca: true)
    twin = X509.self_signed!(hsm, keys.secp384r1, subject: "/CN=deltas", ca: true)
    last = Integer.pow(2, 159) - 1

    for {opts, text} <- [
          {[delta: delta], "delta: it is one that says what is new itself"},
          {[delta: X509.crl!(hsm, ca, other, [])], "delta: it is of another issuer"},
          {[delta: X509.crl!(hsm, keys.secp384r1, twin, [])],
           "delta: it is not signed by|delta: it names another"},
          {[delta: context.root], "delta: this is no revocation list"},
          {[delta: "none"], "delta: this is no revocation list"},
          {[delta: whole, number: 5], "number: 5 is not greater"},
          {[delta: 7, number: 7], "number: 7 is not greater"},
          {[delta: last], "delta: its number is the last one"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, detail: detail}} = crl(context, [], opts)
      assert detail =~ ~r/#{text}/
    end

    for {revoked, opts, text} <- [
          {[], [delta: nil], "delta: must be the list before, DER or PEM, got: nil"},
          {[], [delta: -1], "delta: must be the whole list before"},
          {[], [delta: :list], "delta: must be the whole list before"},
          {[], [delta: 1, delta_crl_urls: @url], "delta_crl_urls: is for whole lists"},
          {[{1, @at, :remove_from_crl}], [], "no reason :remove_from_crl"},
          {[{1, @at, :removed}], [delta: 1], "no reason :removed; known: .*:remove_from_crl"}
        ] do
      assert_raise ArgumentError, ~r/#{text}/, fn -> crl(context, revoked, opts) end
    end
  end
end

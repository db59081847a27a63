defmodule Cryptoki.PKI.JudgesTest do
  use ExUnit.Case, async: true

  # Certificates and lists of each kind of key, before judges that know nothing of this library; what they
  # find and what stands is named in test/support/pki/known.ex, and guides/pki_judges.md has all of it.

  alias Cryptoki.X509
  alias Cryptoki.Test.{KeyPairs, MainToken, Referee}
  alias Cryptoki.Test.PKI.{Judges, Known, Requests}

  @sample ~w(rsa secp256r1 brainpoolP256r1 ed25519)a
  @more ~w(secp384r1 secp521r1 secp256k1 brainpoolP384r1 brainpoolP512r1 ed448)a
  @keys @sample ++ Enum.filter(@more, fn _ -> Requests.all?() end)

  @moduletag timeout: :infinity

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    %{hsm: hsm, keys: KeyPairs.make(hsm, @keys)}
  end

  for {name, padding} <- [rsa: :pss] ++ for(name <- @keys, do: {name, :pkcs1}) do
    @tag skip: MainToken.lacks_key(name)
    test "a server's chain and its lists, by #{name} #{padding}", %{hsm: hsm, keys: keys} do
      key = keys[unquote(name)]
      sign = [padding: unquote(padding)]
      root = [subject: "/C=DE/O=Acme/CN=root", ca: true, days: 30]
      root = X509.self_signed!(hsm, key, root ++ sign)
      csr = X509.csr!(hsm, key, [subject: "/C=DE/O=Acme/CN=between"] ++ sign)
      between = X509.issue!(hsm, key, root, csr, [ca: true, path_len: 0, days: 20] ++ sign)
      names = ~w(www.acme.test *.acme.test 192.0.2.1 2001:db8::1 a@acme.test https://acme.test/x)
      csr = X509.csr!(hsm, key, [subject: "/CN=www", subject_alt_name: names] ++ sign)
      purposes = [extended_key_usage: [:server_auth, :client_auth]]
      leaf = X509.issue!(hsm, key, between, csr, [days: 10] ++ purposes ++ sign)
      none = X509.crl!(hsm, key, root, [], sign)
      revoked = [17, {18, ~U[2026-01-02 03:04:05Z], :key_compromise}]
      some = X509.crl!(hsm, key, between, revoked, [number: 42, days: 3] ++ sign)

      lists = [{none, root}, {some, between}]
      Judges.judge!([root, between, leaf], lists: lists, host: "www.acme.test")
    end
  end

  # What an authority can say of itself and of whom it certifies.
  @policies [policies: [{1, 3, 6, 1, 4, 1, 99_999, 1}]]
  @places [
    crl_urls: ["http://acme.test/a.crl", "http://b.acme.test/a.crl"],
    ocsp_url: "http://ocsp.acme.test",
    ca_issuers_url: "http://acme.test/ca.der"
  ]
  @constraints [
    permitted: [dns: "acme.test", email: "acme.test", ip: "192.0.2.0/24"],
    excluded: [dns: "x.acme.test"]
  ]

  test "all that an authority says of servers and lists", %{hsm: hsm, keys: keys} do
    {root, between} = authorities(hsm, keys.secp256r1, @constraints)
    opts = [subject_alt_name: "www.acme.test", extended_key_usage: [:server_auth, :client_auth]]

    for kind <- [:rsa, :secp256r1, :ed25519], key = keys[kind] do
      leaf = below(hsm, keys.secp256r1, between, key, opts)
      none = X509.crl!(hsm, keys.secp256r1, root, [])
      revoked = [{17, ~U[2026-01-02 03:04:05Z], :superseded}]

      some =
        X509.crl!(hsm, keys.secp256r1, between, revoked, Keyword.take(@places, [:ca_issuers_url]))

      lists = [{none, root}, {some, between}]
      Judges.judge!([root, between, leaf], lists: lists, host: "www.acme.test")
    end
  end

  # The others look at chains of servers only, or at no names of directories.
  test "all that an authority says, one by one", %{hsm: hsm, keys: keys} do
    constraints = [permitted: [{:dir_name, "/C=DE/O=Acme"} | @constraints[:permitted]]]
    {root, between} = authorities(hsm, keys.secp256r1, constraints)

    x25519 =
      {{:ECPoint, elem(:crypto.generate_key(:ecdh, :x25519), 0)}, {:namedCurve, {1, 3, 101, 110}}}

    leaves =
      for {key, opts} <- [
            {keys.rsa, [extended_key_usage: [:time_stamping]]},
            {keys.rsa, [extended_key_usage: [:ocsp_signing], ocsp_nocheck: true]},
            {keys.secp256r1, [extended_key_usage: {[:code_signing], critical: true}]},
            {keys.secp256r1,
             [extended_key_usage: [:email_protection], subject_alt_name: "a@acme.test"]},
            {keys.rsa,
             [extended_key_usage: [:email_protection], subject_alt_name: "a@acme.test"]},
            {x25519, [extended_key_usage: [:email_protection], subject_alt_name: "a@acme.test"]}
          ],
          do: below(hsm, keys.secp256r1, between, key, opts)

    own =
      X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=www", subject_alt_name: "www.acme.test")

    placed = X509.crl!(hsm, keys.secp256r1, between, [], Keyword.take(@places, [:crl_urls]))

    others =
      for leaf <- leaves, do: %{certificates: [root, between, leaf], lists: [{placed, between}]}

    found =
      for case_ <- [%{certificates: [own], lists: []} | others],
          finding <- Judges.pkilint(case_),
          Known.reason(:pkilint, finding, []) == nil,
          do: finding

    assert found == []
  end

  defp authorities(hsm, key, constraints) do
    root = X509.self_signed!(hsm, key, subject: "/C=DE/O=Acme/CN=root", ca: true, days: 30)
    own = [subject: "/C=DE/O=Acme/CN=between", ca: true, path_len: 0, days: 20]
    said = @policies ++ @places ++ [name_constraints: constraints]
    {root, X509.certify!(hsm, key, root, key, own ++ said)}
  end

  defp below(hsm, ca_key, issuer, key, opts) do
    own = [subject: "/C=DE/O=Acme/CN=x", days: 10] ++ @policies ++ @places
    X509.certify!(hsm, ca_key, issuer, key, own ++ opts)
  end

  test "what is wrong is found", %{hsm: hsm, keys: keys} do
    key = keys.secp256r1
    root = X509.self_signed!(hsm, key, subject: "/CN=root", ca: true)
    other = X509.self_signed!(hsm, key, subject: "/CN=other", ca: true)
    csr = X509.csr!(hsm, key, subject: "/CN=www", subject_alt_name: "www.acme.test")
    leaf = X509.issue!(hsm, key, root, csr, extended_key_usage: [:server_auth])
    list = X509.crl!(hsm, key, root, [])
    revoked = X509.crl!(hsm, key, root, [leaf])

    for {certificates, lists, host, blind} <- [
          {[root, Referee.spoilt(leaf)], [{list, root}], "www.acme.test", []},
          {[other, leaf], [], "www.acme.test", []},
          {[root, leaf], [{Referee.spoilt(list), root}], "www.acme.test", [:cryptography]},
          # A name in a certificate, or a chain without lists, is not for all of them.
          {[root, leaf], [{list, root}], "other.test", [:pkilint, :nss]},
          {[root, leaf], [{revoked, root}], "www.acme.test", [:pkilint, :cryptography, :certtool]}
        ],
        case_ = %{certificates: certificates, lists: lists, host: host},
        {judge, {ask, _when}} <- Judges.judges(),
        judge not in blind do
      found = for finding <- ask.(case_), Known.reason(judge, finding, []) == nil, do: finding
      assert found != [], "#{judge} finds nothing in #{inspect({host, blind})}"
    end
  end
end

defmodule Cryptoki.X509ShownTest do
  use ExUnit.Case, async: true

  # What certificates and requests say, as data: what was given comes back, and what others write is `nil` or its DER.

  alias Cryptoki.{DER, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    %{secp256r1: key} = KeyPairs.make(hsm, [:secp256r1])
    %{hsm: hsm, key: key}
  end

  describe "what it says" do
    @url "http://pki.acme.test/"

    # The option, and how it is shown.
    @said [
      crl_urls: [@url <> "1.crl", @url <> "2.crl"],
      delta_crl_urls: [@url <> "delta.crl"],
      ocsp_url: [@url <> "ocsp", @url <> "ocsp2"],
      ca_issuers_url: [@url <> "ca.der"],
      policies: [{1, 2, 3, 4}, :any, {{1, 2, 3, 5}, cps: @url <> "cps", notice: "für Tests"}],
      name_constraints: [
        permitted: [
          dns: "acme.test",
          email: ".acme.test",
          ip: "10.0.0.0/8",
          ip: "2001:db8::/32",
          dir_name: "/C=DE/O=Acme"
        ],
        excluded: [dns: "www.acme.test", uri: "acme.test", ip: "10.1.2.3/32", ip: "0.0.0.0/0"]
      ]
    ]

    test "is shown as the options take it", %{hsm: hsm, key: key} do
      opts = [subject: "/CN=x", ca: true] ++ @said
      der = X509.self_signed!(hsm, key, opts)
      csr = X509.csr!(hsm, key, opts)

      for shown <- [X509.certificate!(der), X509.request!(csr)] do
        assert Map.take(shown, Keyword.keys(@said)) == Map.new(@said)
        refute shown.ocsp_nocheck
        given = Map.take(shown, Keyword.keys(@said)) |> Map.to_list()
        again = X509.self_signed!(hsm, key, [subject: "/CN=x", ca: true] ++ given)
        assert Map.take(X509.certificate!(again), Keyword.keys(@said)) == Map.new(@said)
      end

      responder = [subject: "/CN=x", extended_key_usage: [:ocsp_signing], ocsp_nocheck: true]
      assert %{ocsp_nocheck: true} = X509.certificate!(X509.self_signed!(hsm, key, responder))

      bare = X509.certificate!(X509.self_signed!(hsm, key, subject: "/CN=x"))
      for name <- Keyword.keys(@said), do: assert(bare[name] == [])
    end

    test "in another way is nil, or left out, and its DER is there", %{hsm: hsm, key: key} do
      oid = &X509.Extensions.Names.oid/1
      place = &DER.sequence([DER.sequence([DER.value(0xA0, [&1])])])
      relative = DER.value(0xA1, [DER.sequence([DER.oid({2, 5, 4, 3}), DER.value(12, "x")])])
      name = DER.value(0xA0, [DER.value(0xA4, [DER.sequence([])]), DER.value(0x86, "ldap:///x")])
      policy = &DER.sequence([DER.sequence([DER.oid({1, 2, 3}), DER.sequence([&1])])])
      kept = DER.sequence([DER.value(12, "Acme"), DER.sequence([DER.integer(1)])])
      notice = DER.sequence([DER.oid({1, 3, 6, 1, 5, 5, 7, 2, 2}), DER.sequence([kept])])
      mask = DER.value(0x87, <<10, 0, 0, 0, 255, 0, 255, 0>>)
      access = DER.sequence([DER.oid({1, 2, 3}), DER.value(0x86, "http://x")])

      for {extension, der, option, shown} <- [
            {:crl_urls, place.(relative), :crl_urls, []},
            {:crl_urls, place.(name), :crl_urls, ["ldap:///x"]},
            {:crl_urls, DER.null(), :crl_urls, nil},
            {:crl_urls, DER.sequence([DER.null()]), :crl_urls, nil},
            {:access, DER.sequence([access]), :ocsp_url, []},
            {:access, DER.sequence([DER.sequence([DER.oid({1, 2})])]), :ocsp_url, nil},
            {:access, DER.null(), :ca_issuers_url, nil},
            {:policies, policy.(notice), :policies, [{1, 2, 3}]},
            {:policies, policy.(DER.sequence([DER.oid({1, 2}), DER.null()])), :policies,
             [{1, 2, 3}]},
            {:policies, policy.(DER.null()), :policies, nil},
            {:name_constraints, DER.sequence([DER.value(0xA0, [DER.sequence([mask])])]),
             :name_constraints, [permitted: [other: mask]]},
            {:name_constraints, DER.sequence([DER.value(0xA0, [mask])]), :name_constraints, nil}
          ] do
        extensions = [extensions: [{oid.(extension), der}]]
        der = X509.self_signed!(hsm, key, [subject: "/CN=x", ca: true] ++ extensions)
        certificate = X509.certificate!(der)
        assert {certificate[option], option} == {shown, option}

        assert {oid.(extension), hd(extensions[:extensions]) |> elem(1), critical: false} in certificate.extensions
      end
    end
  end
end

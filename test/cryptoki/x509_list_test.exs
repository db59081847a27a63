defmodule Cryptoki.X509ListTest do
  use ExUnit.Case, async: true

  # Lists of revoked certificates that OpenSSL and others made, and the list that follows another.

  import Cryptoki.Test.CertificationRequest, only: [extension: 2, extension: 3, name: 1]

  alias Cryptoki.{DER, Error, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Parts, Referee, Scratch}

  @day 86_400

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:rsa, :secp256r1, :ed25519])
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/C=DE/O=Acme/CN=Acme CA", ca: true)
    %{hsm: hsm, keys: keys, ca: keys.secp256r1, root: root}
  end

  describe "lists of OpenSSL" do
    @index """
    R\t300101000000Z\t260102030405Z\t01\tunknown\t/CN=a
    R\t300101000000Z\t260102030406Z,keyCompromise\t00FF\tunknown\t/CN=b
    R\t300101000000Z\t260102030407Z,superseded\t7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF\tunknown\t/CN=c
    R\t300101000000Z\t260102030408Z,removeFromCRL\t05\tunknown\t/CN=d
    R\t300101000000Z\t260102030409Z,holdInstruction,holdInstructionReject\t06\tunknown\t/CN=e
    R\t300101000000Z\t260102030410Z,keyTime,20250102030405Z\t07\tunknown\t/CN=f
    V\t300101000000Z\t\t08\tunknown\t/CN=g
    """
    @plain "R\t300101000000Z\t260102030405Z\t01\tunknown\t/CN=a\n"

    test "with reasons, a delta, of version 1 and 2" do
      extensions = "authorityKeyIdentifier=keyid:always\n2.5.29.27=critical,DER:02:01:05\n"
      delta = openssl(@index, extensions)

      for bytes <- [delta, der(delta)] do
        assert {:ok, list} = X509.revocation_list(bytes)

        assert list.revoked == [
                 {1, ~U[2026-01-02 03:04:05Z], :unspecified},
                 {5, ~U[2026-01-02 03:04:08Z], :remove_from_crl},
                 {6, ~U[2026-01-02 03:04:09Z], :certificate_hold},
                 {7, ~U[2026-01-02 03:04:10Z], :key_compromise},
                 {0xFF, ~U[2026-01-02 03:04:06Z], :key_compromise},
                 {Integer.pow(2, 159) - 1, ~U[2026-01-02 03:04:07Z], :superseded}
               ]

        assert [{6, [{{2, 5, 29, 23}, _, critical: false}]}, {7, [{{2, 5, 29, 24}, time, _}]}] =
                 list.entry_extensions

        assert time == DER.value(24, "20250102030405Z")

        assert %{version: 2, number: 0x10, base_number: 5, signature_algorithm: :ecdsa_sha256} =
                 list

        assert list.issuer == "/C=DE/CN=lists"
        assert DateTime.diff(list.next_update, list.this_update) == 7 * @day
        assert <<_::binary-size(20)>> = list.authority_key_identifier
        assert {{2, 5, 29, 27}, <<2, 1, 5>>, critical: true} in list.extensions
      end

      assert {:ok, full} = X509.revocation_list(openssl(@plain, "keyUsage=cRLSign"))
      assert %{version: 2, number: 0x10, base_number: nil, entry_extensions: []} = full

      first = openssl(@plain, nil)
      assert {:ok, list} = X509.revocation_list(first)
      assert %{version: 1, number: nil, extensions: [], revoked: [{1, _, :unspecified}]} = list
      assert first |> der() |> X509.to_pem() |> X509.revocation_list() == {:ok, list}
      assert {:ok, %{version: 1, revoked: []}} = X509.revocation_list(openssl("", nil))

      # What is taken off again stands in a delta only.
      assert refused(openssl(@index, "authorityKeyIdentifier=keyid")) =~
               ~r/revoked certificates, entry 2, .*only a delta list takes a certificate off/
    end
  end

  test "whatever is written can be read, and written again", %{hsm: hsm, keys: keys} do
    for {name, padding} <- [rsa: :pkcs1, rsa: :pss, secp256r1: :pkcs1, ed25519: :pkcs1],
        round <- 1..5 do
      key = keys[name]
      root = X509.self_signed!(hsm, key, subject: "/CN=of #{name}", ca: true, padding: padding)
      revoked = entries(round * round - 1)
      number = :rand.uniform(Integer.pow(2, 8 * round)) - 1
      this = DateTime.truncate(DateTime.utc_now(), :second)
      next = DateTime.add(this, :rand.uniform(60 * 365) * @day)
      times = [this_update: this, next_update: next]
      der = X509.crl!(hsm, key, root, revoked, [number: number, padding: padding] ++ times)

      assert {:ok, list} = X509.revocation_list(der)
      assert Map.take(list, [:this_update, :next_update]) == Map.new(times)
      assert %{number: ^number, base_number: nil, version: 2, entry_extensions: []} = list
      assert list.revoked == revoked
      assert list.authority_key_identifier == X509.certificate!(root).subject_key_identifier
      assert X509.revocation_list!(X509.to_pem(der)) == list

      again = X509.crl!(hsm, key, root, list.revoked, [previous: der, padding: padding] ++ times)
      again = X509.revocation_list!(again)
      assert again.revoked == list.revoked and again.number > number
    end
  end

  @reasons ~w(unspecified key_compromise ca_compromise affiliation_changed superseded
              cessation_of_operation certificate_hold privilege_withdrawn aa_compromise)a
  # A list has a certificate once.
  defp entries(count) do
    Stream.repeatedly(&entry/0) |> Stream.uniq_by(&elem(&1, 0)) |> Enum.take(count)
  end

  defp entry do
    serial = :binary.decode_unsigned(:crypto.strong_rand_bytes(:rand.uniform(19)))
    at = DateTime.add(~U[1950-01-01 00:00:00Z], :rand.uniform(2_300_000_000))
    {serial, at, Enum.random(@reasons)}
  end

  describe "a list that is none" do
    @time DER.time(~U[2026-01-02 03:04:05Z])
    @sha256 DER.sequence([DER.oid({1, 2, 840, 10_045, 4, 3, 2})])

    # Each part as it should be, unless the test says otherwise.
    defp make(parts) do
      get = &Keyword.get(parts, &1, &2)
      algorithm = get.(:algorithm, @sha256)

      signed =
        DER.sequence([
          get.(:version, DER.integer(1)),
          algorithm,
          get.(:issuer, name([[{{2, 5, 4, 3}, 12, "x"}]])),
          get.(:this, @time),
          get.(:next, @time),
          if(parts[:entries], do: DER.sequence(parts[:entries]), else: ""),
          if(parts[:extensions], do: DER.explicit(0, DER.sequence(parts[:extensions])), else: ""),
          get.(:behind, "")
        ])

      DER.sequence([signed, get.(:outer, algorithm), get.(:signature, DER.bit_string("x"))])
    end

    defp revoked(extensions \\ nil, serial \\ DER.integer(5), at \\ @time),
      do: DER.sequence([serial, at, if(extensions, do: DER.sequence(extensions), else: "")])

    defp because(code), do: revoked([extension({2, 5, 29, 21}, code)])

    test "is said to be none, with the part that is wrong" do
      assert {:ok, %{revoked: []}} = X509.revocation_list(make([]))
      number = &extension({2, 5, 29, 20}, &1)

      for {parts, text} <- [
            {[version: ""], nil},
            {[next: ""], nil},
            {[entries: []], nil},
            {[entries: [revoked(), revoked()]], nil},
            {[entries: [because(DER.value(10, [0]))]], nil},
            {[this: DER.value(24, "20260102030405Z")], nil},
            # The same algorithm, with NULL that says nothing.
            {[outer: DER.sequence([DER.oid({1, 2, 840, 10_045, 4, 3, 2}), DER.null()])], nil},
            {[version: DER.integer(0)], "version, .*not known"},
            {[version: DER.integer(2)], "version, .*not known"},
            {[version: DER.octet_string(<<1>>)], "signature algorithm, .*a SEQUENCE"},
            {[outer: DER.sequence([DER.oid({1, 2, 840, 10_045, 4, 3, 3})])],
             "signature algorithm, .*not the one in what is signed"},
            {[algorithm: DER.sequence([])], "signature algorithm, .*no identifier"},
            {[issuer: DER.null()], "issuer, .*SEQUENCE should stand"},
            {[issuer: DER.sequence([DER.null()])], "issuer, "},
            {[this: ""], nil},
            {[this: "", next: ""], "it has no this update"},
            {[this: DER.value(23, "2601020304Z")], "this update, .*no time"},
            {[next: DER.value(24, "20260102030405.5Z")], "next update, .*no time"},
            {[next: @time <> @time], "nothing should stand here"},
            {[behind: DER.null()], "nothing should stand here"},
            {[signature: DER.octet_string("x")], "signature, .*BIT STRING"},
            {[signature: DER.value(3, <<4, 0>>)], "not of whole bytes"},
            {[entries: [DER.null()]], "revoked certificates, entry 1, .*SEQUENCE"},
            {[entries: [revoked(), DER.sequence([DER.integer(1)])]], "entry 2, .*has no time"},
            {[entries: [revoked(nil, DER.octet_string("x"))]], "entry 1, serial number, "},
            {[entries: [revoked(nil, DER.integer(Integer.pow(2, 600)))]], "more than 64 bytes"},
            {[entries: [revoked(nil, <<2, 2, 0, 1>>)]], "written longer than it is"},
            {[entries: [revoked(nil, DER.integer(1), DER.value(23, "x"))]], "entry 1, time, "},
            {[entries: [because(DER.value(10, [7]))]], "2.5.29.21, .*no reason of RFC 5280"},
            {[entries: [because(DER.value(10, [11]))]], "no reason of RFC 5280"},
            {[entries: [because(DER.value(10, [255]))]], "no reason of RFC 5280"},
            {[entries: [because(DER.value(10, [1, 0, 0, 0, 0]))]], "more than 4 bytes"},
            {[entries: [because(DER.value(10, []))]], "a number without a byte"},
            {[entries: [because(DER.integer(1))]], "an ENUMERATED should stand here"},
            {[entries: [because(DER.value(10, [8]))]], "only a delta list"},
            {[
               entries: [
                 revoked(for(_ <- 1..2, do: extension({2, 5, 29, 21}, DER.value(10, [1]))))
               ]
             ], "2.5.29.21 is there twice"},
            {[version: "", entries: [because(DER.value(10, [1]))]], "none in version 1"},
            {[version: "", extensions: [number.(DER.integer(1))]], "none in version 1"},
            {[extensions: [number.(DER.integer(-1))]], "2.5.29.20, .*less than 0"},
            {[extensions: [number.(DER.integer(Integer.pow(2, 159)))]], "more than 20 bytes"},
            {[extensions: [number.(DER.integer(1)), number.(DER.integer(1))]], "is there twice"},
            {[extensions: [extension({2, 5, 29, 27}, DER.null())]], "2.5.29.27, .*an INTEGER"}
          ] do
        case X509.revocation_list(make(parts)) do
          {:ok, _list} -> assert text == nil, "#{text} is read"
          {:error, error} -> assert error.detail =~ ~r/#{text || "nothing of"}/, inspect(parts)
        end
      end

      # Critical ones that are not known are seen.
      critical = extension({1, 2, 3}, DER.null(), [DER.boolean(true)])
      list = X509.revocation_list!(make(entries: [revoked([critical])], extensions: [critical]))
      assert list.extensions == [{{1, 2, 3}, DER.null(), critical: true}]
      assert list.entry_extensions == [{5, list.extensions}]
    end

    test "is refused wherever it is cut off, and before anything else", context do
      der =
        X509.crl!(context.hsm, context.ca, context.root, [
          {17, ~U[2026-01-02 03:04:05Z], :superseded}
        ])

      pem = X509.to_pem(der)
      for size <- 0..(byte_size(der) - 1), do: refused(binary_part(der, 0, size))
      for size <- 0..(byte_size(pem) - 2), do: refused(binary_part(pem, 0, size))

      assert refused(pem <> pem) =~ "more than one revocation list"
      assert refused(context.root) =~ "this is no revocation list: "
      assert refused(X509.to_pem(context.root)) =~ ~s(no revocation list, but "CERTIFICATE")
      assert_raise ArgumentError, ~r/crl: must be DER or PEM/, fn -> X509.revocation_list(nil) end
      assert_raise Error, fn -> X509.revocation_list!("x") end
    end

    test "has a limit in bytes, not in entries" do
      entries = for serial <- 1..40_000, do: revoked(nil, DER.integer(serial))
      assert {:ok, %{revoked: revoked}} = X509.revocation_list(make(entries: entries))

      assert length(revoked) == 40_000 and
               {40_000, ~U[2026-01-02 03:04:05Z], :unspecified} in revoked

      large = <<0x30, 0x84, 16 * 1_048_576::32>> <> :binary.copy(<<0>>, 16 * 1_048_576)
      assert refused(large) =~ "longer than 16777216 bytes"
      assert refused("-----BEGIN X509 CRL-----\n" <> large) =~ "longer than 16777216 bytes"
    end
  end

  describe "the list before" do
    test "has a lesser number, whatever the clock says", %{hsm: hsm, ca: ca, root: root} do
      # Made when the clock was years ahead.
      ahead = Integer.pow(2, 130)
      before = X509.crl!(hsm, ca, root, [1], number: ahead)

      for previous <- [before, X509.to_pem(before)] do
        list = X509.crl!(hsm, ca, root, [], previous: previous)
        assert %{number: number, revoked: []} = X509.revocation_list!(list)
        assert number == ahead + 1
      end

      # Where it is behind, the clock counts.
      past = X509.crl!(hsm, ca, root, [], number: 3)
      list = X509.revocation_list!(X509.crl!(hsm, ca, root, [], previous: past))
      assert list.number > Integer.pow(2, 100)

      for {number, ok?} <- [{2, false}, {3, false}, {4, true}, {0, false}] do
        answer = X509.crl(hsm, ca, root, [], previous: past, number: number)

        if ok?,
          do: assert({:ok, _} = answer),
          else: assert(detail(answer) =~ "number: #{number} is")
      end

      last = X509.crl!(hsm, ca, root, [], number: Integer.pow(2, 159) - 1)
      assert detail(X509.crl(hsm, ca, root, [], previous: last)) =~ "the last one that there is"
    end

    test "is of this authority, and signed by it", %{hsm: hsm, keys: keys, ca: ca, root: root} do
      # The same name, written in another way.
      twin = X509.self_signed!(hsm, ca, subject: "/C=DE/O=ACME/CN=acme  ca", ca: true)
      assert {:ok, _} = X509.crl(hsm, ca, root, [], previous: X509.crl!(hsm, ca, twin, []))

      other = X509.self_signed!(hsm, ca, subject: "/CN=other", ca: true)
      of_other = X509.crl(hsm, ca, root, [], previous: X509.crl!(hsm, ca, other, []))
      assert detail(of_other) =~ ~s(previous: it is of another issuer, "/CN=other")

      for {key, text} <- [
            rsa: "does not sign with sha256_rsa_pkcs",
            ed25519: "not sign with eddsa"
          ] do
        namesake = X509.self_signed!(hsm, keys[key], subject: "/C=DE/O=Acme/CN=Acme CA", ca: true)
        forged = X509.crl!(hsm, keys[key], namesake, [])
        assert detail(X509.crl(hsm, ca, root, [], previous: forged)) =~ text
      end

      spoilt = Referee.spoilt(X509.crl!(hsm, ca, root, []))

      assert detail(X509.crl(hsm, ca, root, [], previous: spoilt)) =~
               "previous: it is not signed by"

      for none <- ["", "x", root, X509.to_pem(root)] do
        assert "previous: this is no" <> _ = detail(X509.crl(hsm, ca, root, [], previous: none))
      end

      sha1 = DER.sequence([DER.oid({1, 2, 840, 10_045, 4, 1})])
      {:ok, [{0x30, whole, _}]} = Parts.split(X509.crl!(hsm, ca, root, []))
      {:ok, [{0x30, signed, _}, _, {_, _, signature}]} = Parts.split(whole)
      {:ok, [version, _algorithm | rest]} = Parts.split(signed)
      signed = for {_, _, field} <- [version, {0, 0, sha1} | rest], do: field
      weak = DER.sequence([DER.sequence(signed), sha1, signature])

      assert {:error, %Error{reason: :unsupported, detail: text}} =
               X509.crl(hsm, ca, root, [], previous: weak)

      assert text =~ "previous: it is signed with ecdsa_sha1, and that hash is broken"
    end

    test "is not later than the one that follows", %{hsm: hsm, ca: ca, root: root} do
      later = DateTime.utc_now() |> DateTime.add(3 * @day) |> DateTime.truncate(:second)
      before = X509.crl!(hsm, ca, root, [], this_update: later)
      say = &X509.crl(hsm, ca, root, [], [previous: before] ++ &1)

      # The clock is behind, and a time that is said.
      for opts <- [[], [this_update: DateTime.add(later, -1)], [number: Integer.pow(2, 130)]] do
        text = detail(say.(opts))
        assert text =~ "is earlier than that of previous:, #{later}"
        assert text =~ "this_update: #{opts[:this_update] || DateTime.utc_now().year}"
      end

      for this <- [later, DateTime.add(later, 1)], do: assert({:ok, _} = say.(this_update: this))

      # Two in one second, of which the first one says now.
      for _ <- 1..3 do
        now = X509.crl!(hsm, ca, root, [], this_update: DateTime.utc_now())
        assert {:ok, next} = X509.crl(hsm, ca, root, [], previous: now)
        [now, next] = for list <- [now, next], do: X509.revocation_list!(list).this_update
        assert DateTime.compare(now, next) != :gt
      end
    end

    # A list of another program, whose clock is ahead, signed by this authority.
    test "says what can be given again, and what cannot is an error", context do
      %{hsm: hsm, ca: ca, root: root} = context
      ahead = DateTime.utc_now() |> DateTime.add(2 * @day) |> DateTime.truncate(:second)
      early = ~U[2026-01-02 03:04:05Z]
      before = X509.crl!(hsm, ca, root, [{7, ahead, :superseded}], this_update: ahead)
      list = X509.revocation_list!(before)
      say = &X509.crl(hsm, ca, root, &1, [previous: before, this_update: ahead] ++ &2)

      # Without a time of its own the list is the one that is too early, not what stands on it.
      assert detail(X509.crl(hsm, ca, root, list.revoked, previous: before)) =~
               "this_update: "

      for {revoked, wanted} <- [
            {list.revoked, list.revoked},
            # As OpenSSL and others write them.
            {[{5, early, :superseded}, {5, early, :superseded}], [{5, early, :superseded}]},
            {[{5, early}, {6, early}, {5, early, :unspecified}],
             [{5, early, :unspecified}, {6, early, :unspecified}]}
          ] do
        assert {:ok, der} = say.(revoked, [])
        assert X509.revocation_list!(der).revoked == wanted
      end

      for {entry, text} <- [
            {{5, DateTime.add(ahead, 1), :superseded}, "is later than now"},
            {{-5, early, :superseded}, "-5 is less than 0"},
            {{5, early, :remove_from_crl}, "no reason :remove_from_crl"}
          ] do
        assert detail(say.([entry], [])) =~ ~r/\Arevoked: .*#{text}/
        assert detail(say.([{1, early}, entry], [])) =~ text

        # Without a list before nobody but the program can have said it.
        assert_raise ArgumentError, ~r/revoked: .*#{text}/, fn ->
          X509.crl(hsm, ca, root, [entry], this_update: ahead)
        end
      end

      for other <- [{5, DateTime.add(early, 1)}, {5, early, :superseded}],
          do: assert(detail(say.([{5, early}, other], [])) =~ ~r/\Arevoked: .*twice.* 0x05/)

      # What no list has is a mistake in any case.
      for {revoked, text} <- [
            {:all, "revoked: must be a list"},
            {[:x], "revoked: is serial numbers"},
            {[{1, :now}], "revoked: must be a DateTime"},
            {[{1, early, :lost}], "there is no reason :lost"}
          ] do
        assert_raise ArgumentError, ~r/#{text}/, fn -> say.(revoked, []) end
      end
    end

    test "is looked at before anything is asked, and is bytes" do
      answer = X509.crl(:no_such_instance, [label: "x"], [label: "x"], [], previous: "x")
      assert detail(answer) =~ "previous: this is no revocation list"

      for {opts, text} <- [
            {[previous: :list], "previous: must be the list before, DER or PEM"},
            # What a store answers that has none yet, or none any more: the number would not be looked at.
            {[previous: nil],
             "previous: must be the list before, DER or PEM, got: nil; leave it out"},
            {%{previous: nil}, "previous: must be the list before"},
            {[previus: "x"], "did you mean :previous"}
          ] do
        assert_raise ArgumentError, ~r/#{text}/, fn ->
          X509.crl(:no_such_instance, [label: "x"], "x", [], opts)
        end
      end
    end
  end

  defp detail({:error, %Error{reason: :invalid_argument, detail: detail}}), do: detail

  defp refused(bytes) do
    assert {:error, %Error{reason: reason, detail: detail}} = X509.revocation_list(bytes)
    assert reason in [:invalid_argument, :unsupported]
    assert String.valid?(detail)
    detail
  end

  defp der(pem) do
    [{_type, der, :not_encrypted}] = :public_key.pem_decode(pem)
    der
  end

  # What `openssl ca -gencrl` makes of such a database, without extensions in version 1.
  defp openssl(index, extensions) do
    Scratch.within("lists", fn directory ->
      [key, root, crl] = for name <- ~w(key root crl), do: Path.join(directory, name)
      ec = ~w(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

      {_, 0} =
        OpenSSL.openssl(
          ~w(req -x509 -subj /C=DE/CN=lists -days 3 -keyout #{key} -out #{root}) ++ ec
        )

      database = Scratch.write(directory, "index", index)
      number = Scratch.write(directory, "number", "10\n")

      config =
        Scratch.write(directory, "config", """
        [ca]
        default_ca = own
        [own]
        database = #{database}
        default_md = sha256
        #{if extensions, do: "crlnumber = #{number}\ncrl_extensions = of_list"}
        [of_list]
        #{extensions}
        """)

      {_, 0} =
        OpenSSL.openssl(
          ~w(ca -gencrl -config #{config} -keyfile #{key} -cert #{root} -crldays 7 -out #{crl})
        )

      File.read!(crl)
    end)
  end
end

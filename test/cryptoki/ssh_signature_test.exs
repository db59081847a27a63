defmodule Cryptoki.SSHSignatureTest do
  use ExUnit.Case, async: true

  # Signatures of files as others make them: by ssh-keygen, whose verdict is compared, and by hand.

  @compile {:no_warn_undefined, :ssh_file}

  alias Cryptoki.{Error, PEM, SSH}
  alias Cryptoki.Test.SSH, as: Keygen
  alias Cryptoki.Test.{KeyPairs, MainToken, Scratch, TLS}

  setup_all do
    # Its reader of public keys is one more referee.
    :ok = TLS.start(:ssh)
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    directory = Scratch.directory("ssh-signatures")
    {file, line} = Keygen.key(directory, ~w(-t ed25519))
    text = sign(directory, file, "text", "file", [])

    context = %{
      hsm: hsm,
      keys: KeyPairs.make(hsm, ~w(rsa secp256r1 secp384r1 secp521r1 ed25519)a)
    }

    Map.merge(context, %{directory: directory, public: line, private: file, text: text})
  end

  describe "signatures of ssh-keygen" do
    for arguments <- [
          ~w(-t rsa -b 2048),
          ~w(-t rsa -b 3072),
          ~w(-t ecdsa -b 256),
          ~w(-t ecdsa -b 384),
          ~w(-t ecdsa -b 521),
          ~w(-t ed25519)
        ] do
      test "with a key of #{Enum.join(arguments, " ")}", %{directory: directory} = context do
        {file, line} = Keygen.key(directory, unquote(arguments))

        for {namespace, hash} <- [{"file", "sha512"}, {"git", "sha256"}], _again <- 1..3 do
          signature = sign(directory, file, "text", namespace, ["-O", "hashalg=#{hash}"])
          verify = &SSH.verify(line, &1, signature, namespace: namespace)

          for data <- ["text", ["te", ?x, "t"], {:stream, ["te", "xt"]}],
              do: assert(verify.(data) == :ok)

          [{key, _comment}] = :ssh_file.decode(line, :public_key)
          key = if match?({:ed_pub, _, _}, key), do: line, else: key
          assert SSH.verify(key, "text", signature, namespace: namespace) == :ok

          for {answer, text} <- [
                {verify.("text "), "not of this data"},
                {SSH.verify(line, "text", signature, namespace: "mail"), "not for \"mail\""},
                {SSH.verify(context.public, "text", signature, namespace: namespace),
                 "by another key"}
              ] do
            assert {:error, %Error{reason: :signature_invalid, detail: detail}} = answer
            assert detail =~ text
          end
        end
      end
    end

    test "and ours, on the token", %{hsm: hsm, keys: keys, directory: directory} do
      for {_name, key} <- keys, opts <- [[], [namespace: "git", hash: :sha256]], _again <- 1..3 do
        public = Cryptoki.public_key!(hsm, key)
        line = SSH.public_key!(hsm, key)
        signature = SSH.sign!(hsm, key, "text", opts)
        opts = Keyword.take(opts, [:namespace])
        for known <- [line, public], do: assert(SSH.verify(known, "text", signature, opts) == :ok)
        assert :ok = SSH.verify!(line, "text", signature, opts)

        assert_raise Error, ~r/not of this data/, fn ->
          SSH.verify!(line, "x", signature, opts)
        end

        assert Keygen.valid?(directory, line, signature, "text", opts[:namespace] || "file")
      end
    end
  end

  # A field of a signature changed, or the signature of what is signed by hand.
  describe "by hand" do
    defp parts(armored) do
      {:ok, [{_, <<"SSHSIG", 1::32, rest::binary>>}]} = PEM.decode(armored, :all)
      [key, namespace, reserved, hash, signature] = strings(rest)
      [algorithm, raw] = strings(signature)

      [key: key, namespace: namespace, reserved: reserved, hash: hash, algorithm: algorithm] ++
        [raw: raw, head: <<"SSHSIG", 1::32>>, behind: "", in_signature: ""]
    end

    defp strings(""), do: []
    defp strings(<<n::32, text::binary-size(n), rest::binary>>), do: [text | strings(rest)]
    defp string(text), do: <<byte_size(text)::32, text::binary>>

    defp make(parts) do
      signature = string(parts[:algorithm]) <> string(parts[:raw]) <> parts[:in_signature]
      fields = for name <- ~w(key namespace reserved hash)a, do: string(parts[name])
      blob = [parts[:head], fields, string(signature), parts[:behind]]
      PEM.encode(blob, "SSH SIGNATURE", 70)
    end

    test "every field has to be as it should be", %{public: line, text: text} = context do
      parts = parts(text)
      assert make(parts) == text
      cut = &binary_part(parts[&1], 0, byte_size(parts[&1]) - 1)

      other =
        context.directory |> Keygen.key(~w(-t rsa)) |> elem(1) |> String.split() |> Enum.at(1)

      for {changed, reason, sentence} <- [
            {[head: <<"SSHSIH", 1::32>>], :invalid_argument, "does not begin with SSHSIG"},
            {[head: <<"SSHSIG", 0::32>>], :unsupported, "no version 0 here"},
            {[head: <<"SSHSIG", 2::32>>], :unsupported, "no version 2 here"},
            {[key: ""], :invalid_argument, "this is no public key"},
            {[key: cut.(:key)], :invalid_argument, "fields of this public key"},
            {[key: string("ssh-dss") <> "x"], :unsupported, ~s(no keys of type "ssh-dss")},
            {[key: Base.decode64!(other)], :invalid_argument, "a key of ssh-rsa is not"},
            {[namespace: ""], :signature_invalid, ~s(it is for "", not for "file")},
            {[namespace: <<255>>], :signature_invalid, "it is for <<255>>"},
            {[namespace: String.duplicate("x", 9_000)], :signature_invalid, "not for"},
            {[reserved: "x"], :unsupported,
             "its reserved field is \"x\", and here it has to be empty"},
            {[reserved: <<0>>], :unsupported, "its reserved field is"},
            {[hash: "sha1"], :unsupported, ~s(the hash is "sha1")},
            {[hash: ""], :unsupported, "the hash is"},
            {[hash: "sha256"], :signature_invalid, "not of this data"},
            {[algorithm: "ssh-rsa"], :unsupported, "SHA-1"},
            {[algorithm: "rsa-sha2-512"], :invalid_argument, "a key of ssh-ed25519 is not"},
            {[algorithm: ""], :invalid_argument, "a key of ssh-ed25519 is not"},
            {[raw: cut.(:raw)], :signature_invalid, "not of this data"},
            {[raw: ""], :signature_invalid, "not of this data"},
            {[raw: parts[:raw] <> <<0>>], :signature_invalid, "not of this data"},
            {[in_signature: "x"], :invalid_argument, "there is more behind it"},
            {[behind: "x"], :invalid_argument, "behind its end"}
          ] do
        text = make(Keyword.merge(parts, changed))

        assert {:error, %Error{reason: ^reason, detail: detail}} = SSH.verify(line, "text", text)

        assert detail =~ sentence
        assert "signature: " <> _ = detail

        # OpenSSH takes version 0, and ignores a reserved field that is not signed; one that is it refuses.
        lax? = changed[:head] == <<"SSHSIG", 0::32>> or changed[:reserved] != nil
        assert Keygen.valid?(context.directory, line, text, "text", "file") == lax?
      end
    end

    test "RSA is as long as the key, ECDSA has two numbers", %{directory: directory} do
      {file, line} = Keygen.key(directory, ~w(-t rsa -b 2048))
      parts = directory |> sign(file, "text", "file", []) |> parts()

      assert refused(line, make(Keyword.merge(parts, raw: <<0>> <> parts[:raw]))) ==
               :signature_invalid

      assert refused(line, make(Keyword.merge(parts, algorithm: "ssh-rsa"))) == :unsupported

      assert refused(line, make(Keyword.merge(parts, algorithm: "rsa-sha2-256"))) ==
               :signature_invalid

      {file, line} = Keygen.key(directory, ~w(-t ecdsa -b 256))
      parts = directory |> sign(file, "text", "file", []) |> parts()
      [r, s] = strings(parts[:raw])

      for raw <- [
            string(r),
            string(r) <> string(s) <> string(s),
            string(<<0>> <> r) <> string(s),
            string("") <> string(s),
            string(<<255>>) <> string(s),
            string(s) <> string(r),
            string(r) <> string(s) <> "x",
            r <> s
          ] do
        changed = make(Keyword.merge(parts, raw: raw))
        assert refused(line, changed) == :signature_invalid
        # OpenSSH reads numbers with zeros before them, as they must not be written.
        lax? = raw == string(<<0>> <> r) <> string(s)
        assert Keygen.valid?(directory, line, changed, "text", "file") == lax?
      end
    end

    test "a reserved field that is signed is refused, as OpenSSH does", %{directory: directory} do
      {edwards, secret} = :crypto.generate_key(:eddsa, :ed25519)
      key = string("ssh-ed25519") <> string(edwards)
      line = "ssh-ed25519 #{Base.encode64(key)}"

      for reserved <- ["", "x", <<0>>, String.duplicate("x", 1_000)] do
        what = string("file") <> string(reserved) <> string("sha512")
        signed = "SSHSIG" <> what <> string(:crypto.hash(:sha512, "text"))

        parts = [head: <<"SSHSIG", 1::32>>, key: key, namespace: "file", reserved: reserved]
        parts = parts ++ [hash: "sha512", algorithm: "ssh-ed25519", in_signature: "", behind: ""]
        raw = :crypto.sign(:eddsa, :none, signed, [secret, :ed25519])
        text = make(parts ++ [raw: raw])

        assert Keygen.valid?(directory, line, text, "text", "file") == (reserved == "")

        if reserved == "",
          do: assert(SSH.verify(line, "text", text) == :ok),
          else: assert(refused(line, text) == :unsupported)
      end
    end

    test "RSA without the zeros before it is the same number, as for OpenSSH", context do
      private = :public_key.generate_key({:rsa, 1024, 65_537})
      {:RSAPrivateKey, _, modulus, exponent, _, _, _, _, _, _, _} = private
      {:ok, public} = SSH.Wire.encode({:RSAPublicKey, modulus, exponent})
      line = "ssh-rsa #{Base.encode64(public.blob)}"

      # One in 256 has a zero there.
      {data, raw} =
        Enum.find_value(1..20_000, fn number ->
          signed = ["SSHSIG", string("file"), string(""), string("sha512")]
          signed = [signed, string(:crypto.hash(:sha512, "#{number}"))]
          raw = :public_key.sign(IO.iodata_to_binary(signed), :sha512, private)
          if :binary.first(raw) == 0, do: {"#{number}", raw}
        end)

      <<0, short::binary>> = raw

      parts = [head: <<"SSHSIG", 1::32>>, key: public.blob, namespace: "file", reserved: ""]
      parts = parts ++ [hash: "sha512", algorithm: "rsa-sha2-512", in_signature: "", behind: ""]

      for {raw, valid?} <- [
            {raw, true},
            {short, true},
            {<<0>> <> raw, false},
            {binary_part(short, 0, byte_size(short) - 1), false},
            {"", false},
            {<<0>>, false}
          ] do
        text = make(parts ++ [raw: raw])
        assert Keygen.valid?(context.directory, line, text, data, "file") == valid?
        answer = SSH.verify(line, data, text)

        if valid?,
          do: assert(answer == :ok),
          else: assert({:error, %Error{reason: :signature_invalid}} = answer)
      end
    end

    test "keys of security keys, when they were touched", %{directory: directory} do
      {point, private} = :crypto.generate_key(:ecdh, :secp256r1)
      {edwards, secret} = :crypto.generate_key(:eddsa, :ed25519)

      ecdsa = fn data ->
        der = :crypto.sign(:ecdsa, :sha256, data, [private, :secp256r1])
        {_, r, s} = :public_key.der_decode(:"ECDSA-Sig-Value", der)
        IO.iodata_to_binary(for number <- [r, s], do: SSH.Wire.mpint(number))
      end

      for {type, fields, sign} <- [
            {"sk-ssh-ed25519@openssh.com", [edwards, "ssh:"],
             &:crypto.sign(:eddsa, :none, &1, [secret, :ed25519])},
            {"sk-ecdsa-sha2-nistp256@openssh.com", ["nistp256", point, "ssh:"], ecdsa}
          ],
          flags <- [0, 1, 4, 5] do
        blob = for field <- [type | fields], into: "", do: string(field)
        line = "#{type} #{Base.encode64(blob)}"
        what = string("file") <> string("") <> string("sha512")
        signed = "SSHSIG" <> what <> string(:crypto.hash(:sha512, "text"))
        touched = <<flags, 17::32>>
        signed = :crypto.hash(:sha256, "ssh:") <> touched <> :crypto.hash(:sha256, signed)

        parts = [head: <<"SSHSIG", 1::32>>, key: blob, namespace: "file", reserved: ""]
        parts = parts ++ [hash: "sha512", algorithm: type, raw: sign.(signed)]
        signature = make(parts ++ [in_signature: touched, behind: ""])
        answer = SSH.verify(line, "text", signature)

        # Whoever looks at it has to: a security key can be asked not to wait for a touch.
        assert Keygen.valid?(directory, line, signature, "text", "file")

        if flags in [1, 5] do
          assert answer == :ok
          again = make(parts ++ [in_signature: <<flags, 18::32>>, behind: ""])
          assert refused(line, again) == :signature_invalid
          refute Keygen.valid?(directory, line, again, "text", "file")
        else
          assert {:error, %Error{detail: "signature: nobody has touched" <> _}} = answer
        end

        for more <- ["", <<1>>, <<1, 0::32, 0>>],
            do:
              assert(
                refused(line, make(parts ++ [in_signature: more, behind: ""])) ==
                  :invalid_argument
              )
      end
    end
  end

  # A field of one type may have the bytes that another type has there.
  test "the type of a key says what its fields are, not their contents" do
    begins = ["nistp", "nistp256", "nistp384", "nistp521", "ssh-ed25519"]

    for begin <- begins, type <- ["ssh-ed25519", "sk-ssh-ed25519@openssh.com"] do
      fields = [point(begin) | if(type == "ssh-ed25519", do: [], else: ["nistp256"])]
      key = for field <- [type | fields], into: "", do: string(field)
      line = "#{type} #{Base.encode64(key)}"
      assert {:ok, "SHA256:" <> _} = SSH.fingerprint(line)
      touched = if type == "ssh-ed25519", do: "", else: <<1, 0::32>>

      parts = [head: <<"SSHSIG", 1::32>>, key: key, namespace: "file", reserved: ""]
      parts = parts ++ [hash: "sha512", algorithm: type, raw: :binary.copy(<<1>>, 64)]

      assert refused(line, make(parts ++ [in_signature: touched, behind: ""])) ==
               :signature_invalid

      if touched == "", do: assert({:ok, _} = SSH.Wire.encode(key(line)))
    end
  end

  defp key(line) do
    {:ok, key} = SSH.Wire.decode(line)
    SSH.Wire.public_key(key)
  end

  # A point of Edwards25519 that begins so.
  defp point(begin) do
    Enum.find_value(0..1000, fn number ->
      point = begin <> <<number::unit(8)-size(32 - byte_size(begin))>>
      if Cryptoki.PublicKey.Edwards.check(:ed25519, point) == :ok, do: point
    end)
  end

  describe "what is no signature" do
    test "is refused wherever it is cut off", %{public: line, text: text} do
      for size <- 0..(byte_size(text) - 2),
          do: assert(refused(line, binary_part(text, 0, size)) == :invalid_argument)

      {:ok, [{_, blob}]} = PEM.decode(text, :all)

      for size <- 0..(byte_size(blob) - 1) do
        cut = PEM.encode(binary_part(blob, 0, size), "SSH SIGNATURE")
        assert refused(line, cut) == :invalid_argument
      end
    end

    test "has another form", %{public: line, text: text} do
      [head | lines] = String.split(text, "\n", trim: true)
      body = Enum.drop(lines, -1)
      whole = Enum.join(body)

      for same <- [
            String.replace(text, "\n", "\r\n"),
            String.trim(text),
            text <> "\n",
            Enum.join([head, whole, List.last(lines)], "\n")
          ] do
        assert SSH.verify(line, "text", same) == :ok
      end

      for other <- [
            "\n" <> text,
            "text\n" <> text,
            text <> "text",
            text <> text,
            <<0xEF, 0xBB, 0xBF>> <> text,
            String.replace(text, head, head <> "\nVersion: 1\n"),
            String.replace(text, "SSH SIGNATURE", "SSH  SIGNATURE"),
            String.replace(text, "SSH SIGNATURE", "PGP SIGNATURE"),
            Enum.join([head, whole <> "!", List.last(lines)], "\n"),
            Enum.join([head, List.last(lines)], "\n"),
            whole,
            String.duplicate("x", 70_000),
            <<255>>,
            ""
          ] do
        assert refused(line, other) == :invalid_argument
      end
    end
  end

  # The judge is the timeout: a digit of a number of 48 000 bytes cost as much as all of it.
  test "numbers as long as a text may be cost what their bytes do", %{public: line} do
    for {type, fields} <- [
          {"ssh-rsa", [<<1, 0, 1>>, :binary.copy(<<0x7F>>, 44_000)]},
          {"ssh-rsa", [:binary.copy(<<0x7F>>, 44_000), <<1, 0, 1>>]},
          {"ssh-rsa", List.duplicate("", 11_000)}
        ] do
      key = for field <- [type | fields], into: "", do: string(field)
      parts = [head: <<"SSHSIG", 1::32>>, key: key, namespace: "file", reserved: ""]
      parts = parts ++ [hash: "sha512", algorithm: "rsa-sha2-512", raw: "x"]
      signature = make(parts ++ [in_signature: "", behind: ""])
      assert byte_size(signature) < 65_536

      for _again <- 1..5,
          do: assert(refused(line, signature) in [:key_size_range, :invalid_argument])
    end
  end

  test "arguments are looked at by name", %{public: line, text: text} do
    for {opts, sentence} <- [
          {[namespace: ""], "namespace: must be text on one line"},
          {[namespace: :git], "namespace: must be text on one line"},
          {[namespace: "a\nb"], "namespace: must be text on one line"},
          {[name_space: "git"], "did you mean :namespace?"},
          {[hash: :sha256], "unknown option :hash"},
          {[timeout: 5], "unknown option :timeout"}
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(sentence)}/, fn ->
        SSH.verify(line, "text", text, opts)
      end
    end

    assert_raise ArgumentError, ~r/signature: must be text/, fn ->
      apply(SSH, :verify, [line, "x", nil])
    end

    assert_raise ArgumentError, ~r/public_key: must be/, fn -> SSH.verify(nil, "x", text) end

    # Before anything of others is looked at: each of them is none, too.
    for {data, sentence} <- [
          {:x, "data is iodata or {:stream, enumerable}"},
          {nil, "data is iodata or {:stream, enumerable}"},
          {{:stream, ["a"], 1}, "data is iodata or {:stream, enumerable}"},
          {{:file, "x"}, "data is iodata or {:stream, enumerable}"},
          {[300], "data must be iodata"},
          {["a" | :b], "data must be iodata"},
          {[:a], "data must be iodata"},
          {{:stream, 5}, "{:stream, enumerable} needs something that can be enumerated"},
          {{:stream, nil}, "{:stream, enumerable} needs something that can be enumerated"},
          {{:stream, "text"}, "{:stream, enumerable} needs something that can be enumerated"},
          {{:stream, fn -> "x" end},
           "{:stream, enumerable} needs something that can be enumerated"},
          {{:stream, {:a, :b}}, "{:stream, enumerable} needs something that can be enumerated"}
        ],
        run <- [&SSH.verify("none", &1, "none"), &SSH.sign(:no_such_instance, [label: "x"], &1)] do
      assert_raise ArgumentError, ~r/\A#{Regex.escape(sentence)}/, fn -> run.(data) end
    end

    for data <- [{:stream, []}, {:stream, fn _, _ -> {:done, nil} end}, {:stream, %{}}, []],
        do: assert({:error, %Error{}} = SSH.verify("none", data, "none"))

    for none <- ["", "x", "ssh-ed25519 AAAA", text] do
      assert {:error, %Error{reason: :invalid_argument, detail: "public_key: " <> _}} =
               SSH.verify(none, "text", text)
    end

    assert {:error, %Error{reason: :unsupported, detail: "public_key: there are no keys" <> _}} =
             SSH.verify("ssh-dss AAAAB3NzaC1kc3M=", "text", text)
  end

  defp refused(line, signature) do
    assert {:error, %Error{reason: reason, detail: detail}} = SSH.verify(line, "text", signature)
    assert String.valid?(detail) and byte_size(detail) < 300
    reason
  end

  defp sign(directory, key, data, namespace, arguments) do
    file = Scratch.write(directory, "data-#{System.unique_integer([:positive])}", data)
    {_, 0} = Keygen.keygen(~w(-q -Y sign -f #{key} -n #{namespace}) ++ arguments ++ [file])
    File.read!(file <> ".sig")
  end
end

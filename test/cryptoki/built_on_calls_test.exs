defmodule Cryptoki.BuiltOnCallsTest do
  use ExUnit.Case, async: true

  # The options of what is built on calls. There is no instance: what is not refused asks for it.

  alias Cryptoki.{CMS, JWK, JWS, SSH, SSL}

  @nobody :no_such_instance
  @key [label: "x"]
  @line "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
  @user [type: :user, key_id: "alice", principals: ["alice"], hours: 8]

  defp call(:jws_sign, opts), do: JWS.sign(@nobody, @key, "text", opts)
  defp call(:jws_verify, opts), do: JWS.verify(@nobody, @key, "e30.e30.AA", opts)
  defp call(:jwk_public, opts), do: JWK.public(@nobody, @key, opts)
  defp call(:jwk_set, opts), do: JWK.set(@nobody, [], opts)
  defp call(:jwk_to_jose, opts), do: JWK.to_jose(@nobody, @key, opts)
  defp call(:cms_sign, opts), do: CMS.sign(@nobody, @key, @key, "text", opts)
  defp call(:certs_keys, opts), do: SSL.certs_keys(@nobody, @key, @key, opts)
  defp call(:ssh_public_key, opts), do: SSH.public_key(@nobody, @key, opts)
  defp call(:ssh_sign, opts), do: SSH.sign(@nobody, @key, "text", opts)
  defp call(:ssh_certificate, opts), do: SSH.certificate(@nobody, @key, @line, opts)

  @calls ~w(jws_sign jws_verify cms_sign certs_keys ssh_sign ssh_certificate
            jwk_public jwk_set jwk_to_jose ssh_public_key)a

  @wrong [
    jws_sign: [
      {[detached: "yes"], "detached: must be true or false, got: \"yes\""},
      {[detached: 1], "detached: must be true or false, got: 1"},
      {[b64: "false"], "b64: must be true or false, got: \"false\""},
      {[alg: :ES256], "alg: must be a string such as \"ES256\", got: :ES256"},
      {[alg: ["ES256"]], "alg: must be a string"},
      {[alg: ""], "alg: must be a string"},
      {[header: [typ: "JWT"]], "header: must be a map"},
      {[header: ~D[2026-01-01]], "header: must be a map"},
      {[header: %{:typ => "JWT", "typ" => "JOSE"}], "header: the name \"typ\" is there twice"},
      {[header: %{1 => "JWT"}], "header: the names of a map are strings or atoms"},
      {[header: %{nil => "JWT"}], "header: the names of a map are strings or atoms"},
      {[header: %{jwk: %{:kty => "EC", "kty" => "RSA"}}],
       "header: the name \"kty\" is there twice"},
      {[header: %{<<255>> => "JWT"}], "header: a string must be UTF-8"},
      {[header: %{typ: {"JWT"}}], "header: JSON has no form of a tuple of 1"},
      {[header: %{alg: "ES256"}], "header: alg is set by the option alg:"},
      {[header: %{"b64" => false}], "header: b64 is set by the option b64:"},
      {[header: %{crit: []}], "header: crit lists extensions that are in the header"},
      {[header: %{crit: nil}], "header: crit lists extensions"},
      {[header: %{crit: ["x", "x"], x: 1}], "header: crit lists extensions"},
      {[header: %{crit: [:x], x: 1}], "header: JSON has no form of an atom"},
      {[header: %{crit: ["x" | "y"], x: 1}], "header: JSON has no form of a list"},
      {[alg: "ES256", alg: "RS256"], "alg: is given twice"},
      {[detach: true], "did you mean :detached"},
      {%{detach: true}, "did you mean :detached"},
      {%{"detached" => true}, "unknown option \"detached\""}
    ],
    jws_verify: [
      {[alg: :ES256], "alg: must be a string, or a list of these"},
      {[alg: []], "alg: must be a string, or a list of these"},
      {[alg: ["ES256", :RS256]], "alg: must be a string, or a list of these"},
      {[alg: ["ES256" | "RS256"]], "alg: must be a string, or a list of these"},
      {[crit: :exp], "crit: must be names of extensions"},
      {[crit: ["exp", 1]], "crit: must be names of extensions"},
      {[crit: ["alg"]], "crit: must be names of extensions"},
      {[payload: :text], "payload: must be iodata or {:stream, enumerable}, got: an atom"},
      {[payload: [:text]], "payload: must be iodata or {:stream, enumerable}, got: a list"},
      {[payload: %{}], "payload: must be iodata"},
      {[payload: {:stream, 5}], "payload: must be iodata or {:stream, enumerable}"},
      {[algs: "ES256"], "did you mean :alg"}
    ],
    jwk_public: [
      {[kid: 5], "kid: must be a string or :thumbprint, got: 5"},
      {[kid: ""], "kid: must be a string or :thumbprint"},
      {[use: :sig], "use: must be a string, got: :sig"},
      {[alg: <<255>>], "alg: must be a string"},
      {[pin: "1"], "unknown option :pin"}
    ],
    jwk_set: [
      {[kid: "1"], "unknown option :kid"},
      {[use: :sig], "use: must be a string, got: :sig"}
    ],
    jwk_to_jose: [{[kid: 5], "kid: must be a string or :thumbprint, got: 5"}],
    cms_sign: [
      {[detached: "yes"], "detached: must be true or false, got: \"yes\""},
      {[hash: :sha1], "hash: must be :sha256, :sha384 or :sha512, got: :sha1"},
      {[hash: "sha256"], "hash: must be :sha256"},
      {[padding: :oaep], "padding: must be :pkcs1 or :pss, got: :oaep"},
      {[signing_time: true], "signing_time: must be a DateTime or false"},
      {[signing_time: ~N[2026-01-01 00:00:00]], "signing_time: must be a DateTime or false"},
      {[attributes: [{{1, 2}, []}]], "attributes: must be pairs"},
      {[attributes: %{}], "attributes: must be a list"},
      {[attributes: [{{1, 2}, [<<5, 0>>]} | :x]], "attributes: must be a list"},
      {[attributes: [{{3, 2}, [<<5, 0>>]}]], "attributes: must have object identifiers"},
      {[attributes: [{{1, 2}, [<<5, 1>>]}]], "attributes: must have values in DER"},
      {[signers: [@key]], "signers: must be a list of {key, certificate}"},
      {[signers: %{}], "signers: must be a list of {key, certificate}"},
      {[signers: [{@key, @key} | :x]], "signers: must be a list of {key, certificate}"},
      {[signers: [{@key, 5}]],
       "signers: is PEM, DER, what names a certificate, or a list of these"},
      {[signers: [{@key, []}]], "signers: is empty"},
      {[signers: [{5, @key}]], "signers: an integer names no key"},
      {[signers: [{@nobody, [lable: "x"], @key}]], "signers: there is no attribute :lable"},
      {[chain: 5], "chain: is PEM, DER, what names a certificate, or a list of these"},
      {[chain: [@key | 5]], "chain: is PEM, DER, what names a certificate, or a list of these"},
      {[chain: [@key, [lable: "x"]]], "chain: there is no attribute :lable"},
      {[chain: "pkcs11:object=%"], "chain: "},
      {[detach: true], "did you mean :detached"}
    ],
    certs_keys: [{[timeuot: 1], "did you mean :timeout"}],
    ssh_public_key: [
      {[comment: "a\nb"], "comment: must be text on one line"},
      {[comment: :a], "comment: must be text on one line"},
      {[pin: "1"], "unknown option :pin"}
    ],
    ssh_sign: [
      {[namespace: ""], "namespace: must be text"},
      {[namespace: "fi\0le"], "namespace: must be text"},
      {[namespace: :file], "namespace: must be text"},
      {[hash: :sha384], "hash: must be :sha512 or :sha256"},
      {[hash: "sha512"], "hash: must be :sha512 or :sha256"},
      {[name: "x"], "unknown option :name"}
    ],
    ssh_certificate: [
      {[type: "user"], "type: must be :user or :host, got: \"user\""},
      {[serial: 1.0], "serial: must be from 0 to 2^64-1"},
      {[serial: 0x10000000000000000], "serial: must be from 0 to 2^64-1"},
      {[days: "1", hours: nil], "days: must be a number above 0"},
      {[valid_after: 5], "valid_after: must be a DateTime from 1970 on or :always"},
      {[hours: 8, hours: 9] ++ Keyword.delete(@user, :hours), "hours: is given twice"},
      {[princpals: ["a"]], "did you mean :principals"}
    ]
  ]

  for {name, wrong} <- @wrong do
    test "wrong ones of #{name}" do
      for {opts, text} <- unquote(Macro.escape(wrong)) do
        opts = if unquote(name) == :ssh_certificate, do: user(opts), else: opts
        error = assert_raise ArgumentError, fn -> call(unquote(name), opts) end
        assert Exception.message(error) =~ text
      end
    end
  end

  test "and the other arguments are looked at as early" do
    for {call, text} <- [
          {fn -> CMS.sign(@nobody, @key, [@key | 5], "") end, "certificate: is PEM, DER"},
          {fn -> CMS.sign(@nobody, @key, [[lable: "x"]], "") end,
           "certificate: there is no attribute :lable"},
          {fn -> CMS.sign(@nobody, 5, @key, "") end, "key: an integer names no key"},
          {fn -> apply(JWK, :set, [@nobody, :x]) end, "keys: must be a list"},
          {fn -> apply(JWK, :set, [@nobody, [@key | :x]]) end, "keys: must be a list"},
          {fn -> JWK.set(@nobody, [@key, 5]) end, "an integer names no key"},
          {fn -> JWK.set(@nobody, label: "x") end, "a tuple of 2 names no key"}
        ] do
      error = assert_raise ArgumentError, call
      assert Exception.message(error) =~ text
    end
  end

  test "wrong ones of ClientKey" do
    least = [hsm: @nobody, key: @key]

    for {own, text} <- [
          {[hsm: @nobody], "key: must be what names a key, got: nil"},
          {[key: @key], "hsm: must be an instance, got: nil"},
          {least ++ [timeuot: 1], "did you mean :timeout"},
          {least ++ [timeout: "1"], "timeout: must be milliseconds"},
          {least ++ [key: @key], "key: is given twice"}
        ] do
      for call <- [
            &SSH.ClientKey.user_key(:"ssh-ed25519", &1),
            &SSH.ClientKey.sign("key", "data", &1)
          ] do
        error = assert_raise ArgumentError, fn -> call.(key_cb_private: own) end
        assert Exception.message(error) =~ text
      end
    end

    assert {:error, %Cryptoki.Error{reason: :shutdown}} =
             SSH.ClientKey.user_key(:"ssh-ed25519", key_cb_private: least)
  end

  defp user(opts) do
    if Keyword.keyword?(opts) and opts[:hours] == nil and opts[:hours] != 8,
      do: Keyword.merge(@user, opts),
      else: opts
  end

  for name <- @calls do
    test "those of calls, and no others, go with #{name}" do
      least = if unquote(name) == :ssh_certificate, do: @user, else: []

      for {opts, text} <- [
            {[timeout: "1"], "timeout: must be milliseconds"},
            {[metadata: [a: 1]], "metadata: must be a map"},
            {[timeout: 1, timeout: 2], "timeout: is given twice"},
            {[format: :der], "unknown option :format"},
            {["text"], "expected a keyword list or a map, got: a list"}
          ] do
        error = assert_raise ArgumentError, fn -> call(unquote(name), least ++ opts) end
        assert Exception.message(error) =~ text
      end
    end

    test "a map of them is as good, with #{name}" do
      least = if unquote(name) == :ssh_certificate, do: @user, else: []
      opts = [timeout: 100, metadata: %{a: 1}] ++ least
      assert call(unquote(name), opts) == call(unquote(name), Map.new(opts))
      assert_raise ArgumentError, ~r/timeuot/, fn -> call(unquote(name), %{timeuot: 1}) end
    end
  end
end

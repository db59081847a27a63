defmodule Cryptoki.PKI.ImportTest do
  use ExUnit.Case, async: true

  # Keys of ML-DSA, ML-KEM and SLH-DSA that every OpenSSL from 3.5 on makes, private and public, on Kryoptic: OpenSSL
  # verifies with its file what the token signs, and the other way round; both agree on secrets. `bin/test` has files that
  # were made once, in test/cryptoki/post_quantum_files_test.exs.

  alias Cryptoki.SignatureAlgorithm.PostQuantum
  alias Cryptoki.Test.{Scratch, Token}
  alias Cryptoki.Test.PKI.Programs

  @moduletag timeout: :infinity
  @moduletag skip: Programs.lacks_post_quantum()

  setup_all do
    token = Token.own_kryoptic("pki-import")

    %{
      hsm: start_supervised!({Cryptoki, Token.options(token, sessions: 2)}),
      openssl: Programs.post_quantum()
    }
  end

  # As OpenSSL has them by itself, seeds alone, expanded keys alone; encrypted; in DER.
  defp forms("slh-dsa"), do: [[], ~w(-aes-256-cbc -passout pass:geheim), ~w(-outform DER)]

  defp forms(family) do
    only = for one <- ~w(seed-only priv-only), do: ~w(-provparam #{family}.output_formats=#{one})
    only ++ forms("slh-dsa")
  end

  for set <- PostQuantum.sets() do
    test "#{set}", %{hsm: hsm} = context do
      mechanism = PostQuantum.mechanism(unquote(set))

      each(context, unquote(set), fn openssl, private, public, path ->
        File.write!(path.("text"), "a text")
        File.write!(path.("sig"), Cryptoki.sign!(hsm, private, mechanism, "a text"))
        pub = ~w(pkeyutl -pubin -inkey #{path.("pub")} -rawin -in #{path.("text")})
        assert {_text, 0} = run(openssl, pub ++ ~w(-verify -sigfile #{path.("sig")}))

        own = ~w(pkeyutl -inkey #{path.("key")} -rawin -in #{path.("text")} -sign)
        assert {_text, 0} = run(openssl, own ++ ~w(-out #{path.("sig")}))
        signature = File.read!(path.("sig"))
        assert Cryptoki.verify(hsm, public, mechanism, "a text", signature) == :ok

        assert {:error, %{reason: :signature_invalid}} =
                 Cryptoki.verify(hsm, public, mechanism, "another", signature)
      end)
    end
  end

  for set <- ~w(ml_kem_512 ml_kem_768 ml_kem_1024)a do
    test "#{set}", %{hsm: hsm} = context do
      secret = [class: :secret_key, key_type: :generic_secret, value_len: 32]
      secret = secret ++ [sensitive: false, extractable: true]
      value = fn key -> Cryptoki.attributes!(hsm, key, [:value]).value end

      each(context, unquote(set), fn openssl, private, public, path ->
        encap = ~w(pkeyutl -encap -pubin -inkey #{path.("pub")} -secret #{path.("secret")})
        assert {_text, 0} = run(openssl, encap ++ ~w(-out #{path.("sealed")}))
        sealed = File.read!(path.("sealed"))
        received = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, sealed, secret)
        assert value.(received) == File.read!(path.("secret"))

        {sealed, sent} = Cryptoki.encapsulate_key!(hsm, public, :ml_kem, secret)
        File.write!(path.("sealed"), sealed)
        decap = ~w(pkeyutl -decap -inkey #{path.("key")} -in #{path.("sealed")})
        assert {_text, 0} = run(openssl, decap ++ ~w(-secret #{path.("secret")}))
        assert value.(sent) == File.read!(path.("secret"))
      end)
    end
  end

  # A key of each OpenSSL in each of its forms, on the token.
  defp each(%{hsm: hsm, openssl: programs}, set, fun) do
    algorithm = set |> to_string() |> String.upcase() |> String.replace("_", "-")
    algorithm = String.replace(algorithm, ~r/(?<=SHA2-|SHAKE-)\d+[SF]/, &String.downcase/1)
    <<family::binary-size(7), _size::binary>> = String.downcase(algorithm)
    family = String.trim_trailing(family, "-")

    for openssl <- programs, form <- forms(family) do
      Scratch.within("import", fn directory ->
        path = &Path.join(directory, &1)
        made = ~w(genpkey -algorithm #{algorithm} -out #{path.("key")})
        assert {_text, 0} = run(openssl, made)

        assert {_text, 0} =
                 run(openssl, ~w(pkey -in #{path.("key")} -pubout -out #{path.("pub")}))

        written = ~w(pkey -in #{path.("key")} -out #{path.("file")}) ++ form
        assert {_text, 0} = run(openssl, written)
        label = "#{set} #{System.unique_integer([:positive])}"
        opts = if "-passout" in form, do: [password: "geheim"], else: []
        file = File.read!(path.("file"))
        private = Cryptoki.import_key!(hsm, file, [label: label, public: false], opts)
        public = Cryptoki.import_key!(hsm, File.read!(path.("pub")), label: label)
        fun.(openssl, private, public, path)
        for key <- [private, public], do: :ok = Cryptoki.destroy(hsm, key)
      end)
    end
  end

  defp run([program | more], arguments),
    do: System.cmd(program, more ++ arguments, stderr_to_stdout: true)
end

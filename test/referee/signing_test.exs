defmodule Cryptoki.Referee.SigningTest do
  use Cryptoki.Test.Referee, async: true

  # Cryptoki.CMS and Cryptoki.SSH on each token: OpenSSL and ssh-keygen read what it signed.

  alias Cryptoki.CMS
  alias Cryptoki.Test.{Scratch, SoftHSM, SSH, TLS}

  setup_all do
    %{directory: TLS.authority(Path.join(SoftHSM.directory(), "signing-referee"))}
  end

  @keys [
    {"RSA", [:rsa_pkcs_key_pair_gen, :sha512_rsa_pkcs, :sha256_rsa_pkcs_pss],
     [modulus_bits: 2048]},
    {"P-256", [:ec_key_pair_gen, :ecdsa], [curve: :secp256r1]},
    {"P-384", [:ec_key_pair_gen, :ecdsa], [curve: :secp384r1]},
    {"P-521", [:ec_key_pair_gen, :ecdsa], [curve: :secp521r1]},
    {"Ed25519", [:ec_edwards_key_pair_gen, :eddsa], [curve: :ed25519]}
  ]

  # 3.0 hands attributes of Ed25519 to a key that it has told a digest.
  @old_openssl "version" |> List.wrap() |> OpenSSL.openssl() |> elem(0) =~ "OpenSSL 3.0"

  on_each_token do
    for {name, [generation | _] = needs, template} <- @keys do
      check "CMS and SSH with #{name}", needs, %{hsm: hsm, directory: directory} do
        template = [id: bytes(8)] ++ unquote(template)
        {public, private} = Cryptoki.generate_key_pair!(hsm, unquote(generation), template)
        public = Cryptoki.public_key!(hsm, public)
        name = unquote(name)

        unless @old_openssl and name == "Ed25519" do
          certificate = TLS.certificate(directory, public, name)
          padding = if name == "RSA", do: :pss
          der = CMS.sign!(hsm, private, certificate, "text", padding: padding)
          assert OpenSSL.cms(der, "#{directory}/ca.pem") == "text"
          assert OpenSSL.cms(flip(der, byte_size(der) - 1), "#{directory}/ca.pem") == :refused
        end

        folder = Scratch.directory("ssh")
        line = Cryptoki.SSH.public_key!(hsm, private)
        signature = Cryptoki.SSH.sign!(hsm, private, "text")
        assert SSH.valid?(folder, line, signature, "text", "file")
        refute SSH.valid?(folder, line, signature, "another", "file")

        opts = [type: :user, key_id: "alice", principals: ["alice"], days: 1]
        shown = SSH.show(folder, Cryptoki.SSH.certificate!(hsm, private, line, opts))
        assert shown =~ Cryptoki.SSH.fingerprint!(public)
      end
    end
  end
end

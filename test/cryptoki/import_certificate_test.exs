defmodule Cryptoki.ImportCertificateTest do
  # Certificates that other programs made, on the token: others find them there, and nothing else is taken for one.
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Key, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch, TLS}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    directory = TLS.authority(Scratch.directory("import-certificate"))
    %{secp256r1: key} = KeyPairs.make(hsm, [:secp256r1])
    pem = TLS.certificate(directory, Cryptoki.public_key!(hsm, key), "www")
    [der] = TLS.der(pem)
    ca = File.read!(Path.join(directory, "ca.pem"))
    %{hsm: hsm, pem: pem, der: der, ca: ca, directory: directory}
  end

  setup do
    %{label: "certificate #{System.unique_integer([:positive])}"}
  end

  test "DER and PEM are what others find by its names",
       %{hsm: hsm, der: der, label: label} = context do
    {:Certificate, signed, _, _} = :public_key.pkix_decode_cert(der, :plain)
    number = :binary.encode_unsigned(elem(signed, 2))
    number = if :binary.first(number) > 127, do: <<0>> <> number, else: number
    serial = <<2, byte_size(number)>> <> number
    [issuer, subject] = for at <- [4, 6], do: :public_key.der_encode(:Name, elem(signed, at))

    for {file, at} <- Enum.with_index([der, context.pem, "text before\n" <> context.pem]) do
      template = [label: label, id: <<at>>]

      assert {:ok, %Key{class: :certificate} = made} =
               Cryptoki.import_certificate(hsm, file, template)

      assert {made.label, made.id, made.token} == {label, <<at>>, false}
      names = [subject: subject, issuer: issuer, serial_number: serial, certificate_type: :x_509]
      assert Cryptoki.find(hsm, names ++ template) == {:ok, [made]}
      assert Cryptoki.certificate(hsm, made) == {:ok, der}
    end
  end

  test "pkcs11-tool reads what OpenSSL has made",
       %{hsm: hsm, directory: directory, label: label} = context do
    assert %Key{token: true} =
             made = Cryptoki.import_certificate!(hsm, context.ca, %{label: label, token: true})

    file = Path.join(directory, label)
    read = ["--read-object", "--type", "cert", "--label", label, "--output-file", file]
    assert {_said, 0} = MainToken.pkcs11_tool(read)
    # By the authority's own key, as OpenSSL says.
    assert {said, 0} =
             OpenSSL.openssl(["x509", "-inform", "DER", "-in", file, "-noout", "-subject"])

    assert said =~ "authority"

    assert [{:Certificate, File.read!(file), :not_encrypted}] ==
             :public_key.pem_decode(context.ca)

    :ok = Cryptoki.destroy(hsm, made)
  end

  test "store/3 is the same, and stays", %{hsm: hsm, der: der, label: label} do
    assert {:ok, %Key{token: true} = stored} = X509.store(hsm, der, label: label)
    :ok = Cryptoki.destroy(hsm, stored)
    assert {:ok, %Key{token: false}} = X509.store(hsm, der, label: label, token: false)
  end

  test "what it says itself is not said otherwise", %{hsm: hsm, der: der, label: label} do
    {:ok, fields} = X509.Fields.read(der)
    same = [class: :certificate, value: der, subject: fields.subject]
    assert {:ok, _} = Cryptoki.import_certificate(hsm, der, [label: label] ++ same)

    for {name, value} <- [
          class: :data,
          certificate_type: :wtls,
          subject: <<0x30, 0>>,
          issuer: fields.subject,
          serial_number: <<2, 1, 1>>,
          public_key_info: <<0x30, 0>>,
          value: der <> <<0>>
        ] do
      assert_raise ArgumentError, ~r/#{name}: what is imported says what it is/, fn ->
        Cryptoki.import_certificate(hsm, der, [{name, value}, label: label])
      end
    end

    assert {:ok, [_one]} = Cryptoki.find(hsm, label: label)
  end

  test "its public key is an attribute of it for who asks for that",
       %{hsm: hsm, der: der, label: label} do
    {:ok, %{public_key_info: info}} = X509.Fields.read(der)
    [code] = Cryptoki.Attribute.types!([:public_key_info])

    for name <- [:public_key_info, code] do
      {:ok, made} = Cryptoki.import_certificate(hsm, der, [{name, info}, {:label, label}])
      assert Cryptoki.attributes(hsm, made, [:public_key_info]) == {:ok, %{public_key_info: info}}
    end
  end

  test "what is no certificate is an error, and leaves nothing",
       %{hsm: hsm, label: label} = context do
    %{der: der, pem: pem} = context
    {:ok, key} = File.read(Path.join(context.directory, "ca.key"))

    for {file, text} <- [
          {"", "certificate: "},
          {"no certificate", "certificate: it is neither DER nor PEM"},
          {der <> <<0>>, "bytes behind its end"},
          {binary_part(der, 0, 100), "certificate: "},
          {<<0x30, 0>>, "certificate: this is no certificate"},
          {key, "certificate: "},
          {pem <> context.ca, "there are 2 in it"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, code: nil} = error} =
               Cryptoki.import_certificate(hsm, file, label: label)

      assert error.detail =~ text
    end

    assert Cryptoki.find(hsm, label: label) == {:ok, []}
  end

  test "a mistake of who writes the program raises before anything is asked", %{der: der} do
    for {arguments, text} <- [
          {[nil, [label: "x"]], ~r/certificate: must be DER or PEM/},
          {[[der], [label: "x"]], ~r/certificate: must be DER or PEM/},
          {[der, [lable: "x"]], ~r/did you mean :label/},
          {[der, nil], ~r/template/},
          {[der, [label: "x"], [timout: 1]], ~r/timout/}
        ] do
      assert_raise ArgumentError, text, fn ->
        apply(Cryptoki, :import_certificate, [:nobody | arguments])
      end
    end

    assert {:error, %Error{reason: :shutdown}} =
             Cryptoki.import_certificate(:nobody, der, label: "x")
  end

  test "from Erlang", %{hsm: hsm, der: der, label: label} do
    assert {:ok, %{class: :certificate, token: false}} =
             :cryptoki.import_certificate(hsm, der, %{label: label})

    assert {:error, {:invalid_argument, %{code: nil}}} =
             :cryptoki.import_certificate(hsm, <<"none">>, %{label: label}, %{timeout: 5000})

    blamed = fn arguments ->
      try do
        apply(:cryptoki, :import_certificate, [hsm | arguments])
      catch
        :error, :badarg ->
          [{_module, _function, _arity, info} | _callers] = __STACKTRACE__
          get_in(info, [:error_info, :cause])
      end
    end

    assert %{2 => "certificate: must be" <> _} = blamed.([:none, %{}])
    assert %{3 => "there is no attribute :lable" <> _} = blamed.([der, %{lable: label}])
  end
end

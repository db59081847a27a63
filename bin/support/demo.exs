# What bin/demo runs: every step is printed with its time and the line of code that did it.

defmodule Cryptoki.Demo.Step do
  # The value of `code`, printed as a step; a variable that it binds is bound in the caller.
  defmacro step(title, code) do
    quote do
      begun = System.monotonic_time(:microsecond)
      value = unquote(code)
      elapsed = System.monotonic_time(:microsecond) - begun
      Cryptoki.Demo.Step.print(unquote(title), elapsed, unquote(Macro.to_string(code)))
      value
    end
  end

  def print(title, elapsed, code) do
    time = :io_lib.format("~8.1f ms", [elapsed / 1000])
    IO.puts([String.pad_trailing(title, 66), time])
    IO.puts(["    ", String.replace(code, "\n", "\n    "), "\n"])
  end
end

defmodule Cryptoki.Demo do
  import Cryptoki.Demo.Step

  @libraries ~w(
    /usr/lib/softhsm/libsofthsm2.so
    /usr/lib64/pkcs11/libsofthsm2.so
    /usr/local/lib/softhsm/libsofthsm2.so
    /opt/homebrew/lib/softhsm/libsofthsm2.so
  )

  # Answers the instance, which goes on running; raises when a step does not hold.
  def run do
    Logger.configure(level: :warning)
    file = System.fetch_env!("CRYPTOKI_DEMO_FILE")
    File.cd!(System.fetch_env!("CRYPTOKI_DEMO_DIRECTORY"))
    File.cp!(file, "document")
    document = File.read!("document")
    IO.puts("Signing #{file}, #{byte_size(document)} bytes.\n")

    hsm = start(library())
    generate(hsm)
    sign(hsm, document)
    verify()
    change(hsm, document)

    IO.puts(
      "Both signatures hold, and neither does for a changed byte. The private keys never left the token."
    )

    hsm
  end

  defp library do
    System.get_env("SOFTHSM2_LIBRARY") || Enum.find(@libraries, &File.exists?/1) ||
      raise "libsofthsm2.so was not found: set SOFTHSM2_LIBRARY to its path"
  end

  defp start(library) do
    hsm = Demo.HSM

    step(
      "An instance under a supervisor",
      {:ok, _} =
        Supervisor.start_link(
          [
            {Cryptoki,
             name: hsm, library: library, token: [label: "demo"], pin: {:env, "CRYPTOKI_DEMO_PIN"}}
          ],
          strategy: :one_for_one
        )
    )

    step("What it is connected to", {:ok, %{label: "demo"}} = Cryptoki.token_info(hsm))
    hsm
  end

  defp generate(hsm) do
    step(
      "An EC P-256 key pair, made in the token",
      {:ok, _} =
        Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen,
          label: "ec",
          id: <<1>>,
          token: true,
          curve: :secp256r1
        )
    )

    step(
      "An RSA-2048 key pair, made in the token",
      {:ok, _} =
        Cryptoki.generate_key_pair(hsm, :rsa_pkcs_key_pair_gen,
          label: "rsa",
          id: <<2>>,
          token: true,
          modulus_bits: 2048
        )
    )

    step(
      "The private keys cannot be read",
      {:ok, %{value: {:error, :attribute_sensitive}}} =
        Cryptoki.attributes(hsm, [label: "ec", class: :private_key], [:value])
    )
  end

  defp sign(hsm, document) do
    step(
      "A signature by the EC key",
      {:ok, signature} = Cryptoki.sign(hsm, [label: "ec"], :ecdsa_sha256, document, format: :der)
    )

    File.write!("ec.sig", signature)

    step(
      "A signature by the RSA key",
      {:ok, signature} = Cryptoki.sign(hsm, [label: "rsa"], :sha256_rsa_pkcs, document)
    )

    File.write!("rsa.sig", signature)

    for label <- ["ec", "rsa"] do
      step(
        "The public half of #{label}, for OpenSSL",
        {:ok, key} = Cryptoki.public_key(hsm, label: label)
      )

      entry = :public_key.pem_entry_encode(:SubjectPublicKeyInfo, key)
      File.write!("#{label}.pem", :public_key.pem_encode([entry]))
    end
  end

  defp verify do
    step(
      "OpenSSL accepts the EC signature",
      "Verified OK" = openssl("dgst -sha256 -verify ec.pem -signature ec.sig document")
    )

    step(
      "OpenSSL accepts the RSA signature",
      "Verified OK" = openssl("dgst -sha256 -verify rsa.pem -signature rsa.sig document")
    )
  end

  defp change(hsm, document) do
    step("One byte of the document is changed", changed = change_a_byte(document))
    File.write!("changed", changed)

    step(
      "OpenSSL refuses the EC signature",
      "Verification failure" = openssl("dgst -sha256 -verify ec.pem -signature ec.sig changed")
    )

    step(
      "OpenSSL refuses the RSA signature",
      "Verification failure" = openssl("dgst -sha256 -verify rsa.pem -signature rsa.sig changed")
    )

    signature = File.read!("rsa.sig")

    step(
      "And so does the token",
      false = Cryptoki.valid?(hsm, [label: "rsa"], :sha256_rsa_pkcs, changed, signature)
    )
  end

  # OpenSSL's verdict, without the details it adds to a refusal.
  defp openssl(arguments) do
    {text, _} = System.cmd("openssl", String.split(arguments), stderr_to_stdout: true)
    text |> String.split("\n") |> Enum.find(text, &(&1 =~ ~r/^Verif/))
  end

  defp change_a_byte(""), do: "!"

  defp change_a_byte(document) do
    at = div(byte_size(document), 2)
    {before, <<byte, rest::binary>>} = :erlang.split_binary(document, at)
    <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
  end
end

defmodule Cryptoki.X509ReviewTest do
  use ExUnit.Case, async: true

  # What is told of a request before it is signed, and when.

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:rsa, :secp256r1, :secp384r1])
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root", ca: true)

    %{
      hsm: hsm,
      keys: keys,
      ca: keys.secp256r1,
      root: root,
      directory: Scratch.directory("review")
    }
  end

  defp certify(context, key, opts),
    do: X509.certify!(context.hsm, context.ca, context.root, key, opts)

  defp csr(context, opts),
    do: X509.csr!(context.hsm, context.keys.secp384r1, [subject: "/CN=asked"] ++ opts)

  defp issue(context, csr, opts), do: X509.issue(context.hsm, context.ca, context.root, csr, opts)

  defp show(context, der) do
    file = Scratch.write(context.directory, "#{System.unique_integer([:positive])}", der)
    {text, 0} = OpenSSL.openssl(~w(x509 -noout -text -inform DER -in #{file}))
    text
  end

  @asked ["www.acme.test", "192.0.2.1", "a@acme.test", "https://acme.test/"]

  for {copy, copied} <- [
        {nil, [:dns, :ip, :email, :uri]},
        {true, [:dns, :ip, :email, :uri]},
        {[:dns], [:dns]},
        {[:uri, :ip], [:ip, :uri]},
        {[], []},
        {false, []}
      ] do
    test "the kinds of names are copied that are asked for: copy: #{inspect(copy)}", context do
      opts = [copy: unquote(copy)]
      csr = csr(context, subject_alt_name: @asked)
      {:ok, review} = X509.review(context.hsm, context.root, csr, opts)
      assert Keyword.keys(review.copied) == unquote(copied)
      assert review.subject_alt_name == review.copied

      assert Enum.sort(review.copied ++ review.dropped) ==
               Enum.sort(X509.request!(csr).subject_alt_name)

      log = capture_log(fn -> send(self(), issue(context, csr, opts)) end)
      assert_received {:ok, der}

      shown = show(context, der)

      for {kind, text} = name <- X509.request!(csr).subject_alt_name do
        assert shown =~ text == kind in unquote(copied)
        assert log =~ inspect(name) == kind not in unquote(copied)
      end
    end
  end

  test "everything is shown that becomes of it", context do
    opts = [subject_alt_name: @asked, key_usage: [:content_commitment], policies: [{1, 2, 3}]]
    csr = csr(context, opts ++ [extensions: [{{1, 2, 3, 4}, <<5, 0>>}]])
    opts = [subject: "/CN=said", extended_key_usage: [:client_auth], days: 3]
    {:ok, review} = X509.review(context.hsm, context.root, csr, opts)
    assert review.subject == "/CN=said"
    assert review.public_key == Cryptoki.public_key!(context.hsm, context.keys.secp384r1)
    assert DateTime.diff(review.not_after, review.not_before) == 3 * 86_400
    assert review.warnings == []

    assert Enum.sort(review.dropped) ==
             [extension: :key_usage, extension: :policies, extension: {1, 2, 3, 4}]

    {:ok, der} = issue(context, csr, opts)
    {:ok, certificate} = X509.certificate(der)

    for name <- [:subject, :subject_alt_name, :public_key, :key, :extensions],
        do: assert(certificate[name] == review[name])
  end

  test "what would be refused is refused with the same words", context do
    for {csr, opts} <- [
          {"no request", []},
          {csr(context, []), [ca: true, key_usage: [:key_encipherment, :key_cert_sign]]},
          {csr(context, []), [not_before: ~U[2100-01-01 00:00:00Z]]},
          {X509.csr!(context.hsm, context.keys.rsa, subject_alt_name: "a.test"), [copy: [:ip]]}
        ] do
      assert {:error, %Error{reason: :invalid_argument} = error} = issue(context, csr, opts)
      assert {:error, ^error} = X509.review(context.hsm, context.root, csr, opts)
    end
  end

  test "a server without alternative names is told, whoever makes it", context do
    %{hsm: hsm, keys: keys} = context

    for {opts, told?} <- [
          {[subject: "/CN=told.acme.test"], true},
          {[subject: "/CN=x", extended_key_usage: [:server_auth]], true},
          {[subject: "/CN=x", subject_alt_name: "a@b.test", extended_key_usage: [:server_auth]],
           true},
          {[subject: "/CN=x"], false},
          {[subject: "/CN=told.acme.test", extended_key_usage: [:client_auth]], false},
          {[subject: "/CN=told.acme.test", ca: true], false},
          {[subject: "/CN=told.acme.test", subject_alt_name: "told.acme.test"], false}
        ] do
      plain = csr(context, [])
      csr = fn -> {:ok, _} = X509.csr(hsm, keys.rsa, opts) end
      certify = fn -> certify(context, keys.rsa, opts) end
      issue = fn -> {:ok, _} = issue(context, plain, opts) end

      for {name, fun} <- [csr: csr, certify: certify, issue: issue] do
        line =
          "cryptoki #{inspect(hsm)}: X509.#{name}: a server's certificate without alternative"

        assert capture_log(fun) =~ line == told?, inspect({name, opts})
      end

      {:ok, review} = X509.review(hsm, context.root, plain, opts)
      assert Keyword.has_key?(review.warnings, :no_alternative_name) == told?
    end
  end
end

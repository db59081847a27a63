defmodule Cryptoki.Test.Stamps do
  @moduledoc false
  # An authority for time stamps with keys of the main token, and OpenSSL as their judge.

  alias Cryptoki.{Error, Timestamp, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, Scratch}

  @policy {1, 3, 6, 1, 4, 1, 99_999, 1}
  @text "some text\r\n\0 that was there"

  @doc "The policy that is stamped by, and what is stamped."
  def policy, do: @policy
  def content, do: @text

  @doc "An instance with keys, an authority, one below it, and who stamps; each in a file of a directory."
  @spec context :: map
  def context do
    hsm = ExUnit.Callbacks.start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:rsa, :secp256r1, :secp384r1])
    directory = Scratch.directory("timestamp")
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root of stamps", ca: true)
    context = %{hsm: hsm, keys: keys, root: root, directory: directory}
    context = Map.merge(context, below(context))
    for name <- ~w(root between tsa)a, do: save(context, "#{name}.pem", context[name])
    Scratch.write(directory, "data", @text)
    Scratch.write(directory, "other", @text <> ".")
    context
  end

  # An authority between the root and who stamps.
  defp below(%{hsm: hsm, keys: keys, root: root}) do
    key = keys.secp384r1
    between = X509.certify!(hsm, keys.secp256r1, root, key, subject: "/CN=between", ca: true)
    opts = [subject: "/C=DE/CN=stamps", extended_key_usage: [:time_stamping], days: 30]
    %{between: between, tsa: X509.certify!(hsm, key, between, keys.rsa, opts)}
  end

  @doc "A certificate in a file of the directory."
  def save(%{directory: directory}, name, certificate),
    do: Scratch.write(directory, name, X509.to_pem(certificate))

  @doc "OpenSSL in the directory."
  def openssl(%{directory: directory}, arguments),
    do: System.cmd("openssl", arguments, cd: directory, stderr_to_stdout: true)

  @doc "A stamp of who stamps."
  def respond(context, request, opts \\ []) do
    chain = [context.tsa, context.between]
    opts = [policy: @policy] ++ opts
    Timestamp.respond!(context.hsm, context.keys.rsa, chain, request, opts)
  end

  @doc "What is said of a stamp by who trusts the root."
  def verify(context, response, stamped, opts \\ []),
    do: Timestamp.verify(response, stamped, [trusted: context.root] ++ opts)

  @doc "Why it is none."
  def invalid({:error, %Error{reason: :signature_invalid, detail: detail}}), do: detail

  @doc "What OpenSSL says of an answer."
  def judge(context, response, arguments) do
    Scratch.write(context.directory, "reply.tsr", response)
    openssl(context, ~w(ts -verify -in reply.tsr -CAfile root.pem) ++ arguments)
  end

  @doc "An answer in OpenSSL's words."
  def text(context, response) do
    Scratch.write(context.directory, "reply.tsr", response)
    {text, 0} = openssl(context, ~w(ts -reply -in reply.tsr -text))
    text
  end
end

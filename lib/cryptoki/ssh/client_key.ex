defmodule Cryptoki.SSH.ClientKey do
  alias Cryptoki.{CallOptions, Error}
  alias Cryptoki.SSH.Signer

  @moduledoc """
  The user's key of OTP's SSH client, on a token: a module for its option `key_cb`.

      {:ok, connection} =
        :ssh.connect(~c"host.example", 22,
          user: ~c"deploy",
          key_cb: {Cryptoki.SSH.ClientKey, hsm: MyApp.HSM, key: [label: "deploy"]})

  `hsm:` and `key:` are as in `Cryptoki.sign/5`, and so are `timeout:`, `pin:` and `metadata:`; give a PIN
  by function, since `:ssh.connection_info/1` shows these options. The keys of hosts are looked up where
  `:ssh_file` has them, `~/.ssh/known_hosts`.

  A key that cannot be had leaves the client to its other ways to log in; a signature that fails ends
  the connection, with the reason in the log. Keys: RSA with SHA-2, ECDSA on P-256, P-384 and P-521,
  Ed25519. A daemon of OTP has no such way: its host keys are in memory.
  """

  # The callbacks of `:ssh_client_key_api`. `:ssh` need not be there.
  @compile {:no_warn_undefined, :ssh_file}

  @own [
    hsm: [cast: :any, must: "an instance", needed: true],
    key: [cast: :any, must: "what names a key", needed: true]
  ]

  @doc false
  @spec user_key(atom, keyword) :: {:ok, {:ssh2_pubkey, binary}} | {:error, term}
  def user_key(algorithm, options) do
    {hsm, key, call} = own!(options)
    wanted = Atom.to_string(algorithm)

    case Signer.own(hsm, key, call) do
      {:ok, %{type: ^wanted, blob: blob}} -> {:ok, {:ssh2_pubkey, blob}}
      {:ok, _of_another_type} -> {:error, :enoent}
      {:error, %Error{} = error} -> {:error, error}
    end
  end

  @doc false
  @spec sign(binary, binary, keyword) :: binary
  def sign(_public_key, data, options) do
    {hsm, key, call} = own!(options)

    with {:ok, hash} <- hash(data),
         {:ok, signer} <- Signer.fetch(hsm, key, hash, call),
         {:ok, signature} <- Signer.raw(signer, data) do
      IO.iodata_to_binary(signature)
    else
      {:error, error} -> raise error
    end
  end

  @doc false
  @spec is_host_key(term, term, :inet.port_number(), atom, keyword) :: boolean | {:error, term}
  def is_host_key(key, host, port, algorithm, options),
    do: ssh_file().is_host_key(key, host, port, algorithm, options)

  @doc false
  @spec add_host_key(term, :inet.port_number(), term, keyword) :: :ok | {:error, term}
  def add_host_key(host, port, key, options),
    do: ssh_file().add_host_key(host, port, key, options)

  # By a function: Mix would have it among our applications.
  defp ssh_file, do: :ssh_file

  # What is signed names the algorithm (RFC 4252, section 7), which the callback does not get.
  defp hash(
         <<a::32, _session::binary-size(a), 50, b::32, _user::binary-size(b), c::32,
           _service::binary-size(c), 9::32, "publickey", 1, d::32, algorithm::binary-size(d),
           _key::binary>>
       ) do
    case algorithm do
      "ssh-rsa" -> {:error, Error.new(:unsupported, "ssh-rsa signs with SHA-1")}
      "rsa-sha2-256" -> {:ok, :sha256}
      _other -> {:ok, :sha512}
    end
  end

  defp own!(options) do
    own = Keyword.fetch!(options, :key_cb_private)
    {own, call} = CallOptions.split!(own, @own)
    {own[:hsm], own[:key], call}
  end
end

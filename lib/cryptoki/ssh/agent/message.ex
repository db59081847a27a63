defmodule Cryptoki.SSH.Agent.Message do
  @moduledoc false
  # The messages of an agent (draft-ietf-sshm-ssh-agent), without the length before each. Pure.

  alias Cryptoki.SSH.Wire

  @failure <<5>>
  @identities 11
  @identities_answer 12
  @sign 13
  @sign_answer 14
  # OpenSSH's own limit.
  @most 256 * 1024

  @rsa_sha256 2
  @rsa_sha512 4

  @doc "The most bytes of a message."
  @spec most() :: pos_integer
  def most, do: @most

  @doc "What a client asks for; `:other` is what this agent does not do."
  @spec read(binary) :: :identities | {:sign, binary, binary, :sha256 | :sha512 | :sha1} | :other
  def read(<<@identities>>), do: :identities

  def read(<<@sign, a::32, key::binary-size(a), b::32, data::binary-size(b), flags::32>>),
    do: {:sign, key, data, hash(flags)}

  def read(_other), do: :other

  # Of RSA keys: which is asked for, or what there was before both.
  defp hash(flags) do
    cond do
      Bitwise.band(flags, @rsa_sha512) != 0 -> :sha512
      Bitwise.band(flags, @rsa_sha256) != 0 -> :sha256
      true -> :sha1
    end
  end

  @spec failure() :: binary
  def failure, do: @failure

  @doc "The keys, each with its comment."
  @spec identities([{binary, String.t()}]) :: iolist
  def identities(keys) do
    keys = for {blob, comment} <- keys, do: [Wire.string(blob), Wire.string(comment)]
    [@identities_answer, <<length(keys)::32>>, keys]
  end

  @spec signature(iodata) :: iolist
  def signature(signature), do: [@sign_answer, Wire.string(signature)]

  @doc """
  What is signed: a login as a user (RFC 4252, section 7; what is bound to a host, too), a file for something (OpenSSH's
  PROTOCOL.sshsig), or what nobody knows.
  """
  @spec purpose(binary) :: {:login, String.t()} | {:signature, String.t()} | :unknown
  def purpose(<<"SSHSIG", size::32, namespace::binary-size(size), _rest::binary>>),
    do: text(:signature, namespace)

  def purpose(
        <<a::32, _session::binary-size(a), 50, b::32, user::binary-size(b), 14::32,
          "ssh-connection", c::32, method::binary-size(c), 1, _rest::binary>>
      )
      when method in ["publickey", "publickey-hostbound-v00@openssh.com"],
      do: text(:login, user)

  def purpose(_other), do: :unknown

  # It is shown to people.
  defp text(kind, text) do
    # What turns a line around would show them another one.
    if String.valid?(text) and byte_size(text) <= 256 and not (text =~ ~r/[\p{Cc}\p{Cf}]/u),
      do: {kind, text},
      else: :unknown
  end
end

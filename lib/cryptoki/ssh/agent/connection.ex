defmodule Cryptoki.SSH.Agent.Connection do
  @moduledoc false
  # One client of an agent: its questions, one after the other, until it has none.

  require Logger

  alias Cryptoki.Error
  alias Cryptoki.SSH.Agent.Message
  alias Cryptoki.SSH.{Signer, Wire}

  # A client that says nothing for so long is gone.
  @idle 600_000

  @type key :: %{hsm: Cryptoki.hsm(), key: Cryptoki.key(), comment: String.t(), call: keyword}
  @type agent :: %{keys: [key], ask: (map -> term) | {module, atom, list}}

  @doc "Serves a socket until it is closed."
  @spec serve(:gen_tcp.socket(), agent) :: :ok
  def serve(socket, agent) do
    with {:ok, message} <- :gen_tcp.recv(socket, 0, @idle),
         :ok <- :gen_tcp.send(socket, answer(message, agent)) do
      serve(socket, agent)
    else
      {:error, _closed_or_too_long} -> :gen_tcp.close(socket)
    end
  end

  @doc "What a message is answered with; of whatever goes wrong a client learns that it did."
  @spec answer(binary, agent) :: iodata
  def answer(message, agent) do
    case Message.read(message) do
      :identities ->
        Message.identities(for {key, own} <- identities(agent), do: {own.blob, key.comment})

      {:sign, blob, data, hash} ->
        sign(blob, data, hash, agent)

      :other ->
        Message.failure()
    end
  end

  # Those that can be had now.
  defp identities(%{keys: keys}) do
    for key <- keys, {:ok, own} <- [own(key)], do: {key, own}
  end

  defp own(%{hsm: hsm, key: key, call: call} = one) do
    with {:error, %Error{} = error} <- Signer.own(hsm, key, call) do
      warn(one, Exception.message(error))
      :error
    end
  end

  defp sign(blob, data, hash, agent) do
    with {key, own} <- Enum.find(identities(agent), fn {_key, own} -> own.blob == blob end),
         # ssh-rsa signs with SHA-1.
         true <- own.type != "ssh-rsa" or hash != :sha1,
         true <- allowed?(agent.ask, key, own, data) do
      signature(key, data, hash)
    else
      _not_listed_or_not_allowed -> Message.failure()
    end
  end

  # Nothing but `true` is a yes.
  defp allowed?(ask, key, own, data) do
    use = %{
      key: Wire.line(own.type, own.blob, key.comment),
      fingerprint: Wire.fingerprint(own),
      comment: key.comment,
      purpose: Message.purpose(data)
    }

    asked(ask, use) == true
  rescue
    error -> refused(key, "ask: raised #{inspect(error.__struct__)}")
  catch
    kind, _value -> refused(key, "ask: ended with #{kind}")
  end

  defp asked({module, name, arguments}, use), do: apply(module, name, [use | arguments])
  defp asked(fun, use), do: fun.(use)

  defp refused(key, text) do
    warn(key, text)
    false
  end

  defp signature(%{hsm: hsm, key: selector, call: call} = key, data, hash) do
    hash = if hash == :sha256, do: :sha256, else: :sha512

    with {:ok, signer} <- Signer.fetch(hsm, selector, hash, call),
         {:ok, signature} <- Signer.sign(signer, data) do
      Message.signature(signature)
    else
      {:error, error} ->
        warn(key, Exception.message(error))
        Message.failure()
    end
  end

  defp warn(key, text),
    do: Logger.warning("cryptoki ssh agent, key #{inspect(key.comment)}: #{text}")
end

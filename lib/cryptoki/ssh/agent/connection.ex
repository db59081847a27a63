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
    for key <- keys, {:ok, own} <- [had(key, &Signer.own/3)], do: {key, own}
  end

  defp had(%{hsm: hsm, key: key, call: call} = one, fun) do
    with {:error, %Error{} = error} <- fun.(hsm, key, call) do
      warn(one, Exception.message(error))
      :error
    end
  end

  # What signs is what was asked for, whatever its selector names by then: a signature verifies with that public key.
  defp sign(blob, data, hash, agent) do
    with {key, signer} <- Enum.find_value(agent.keys, &signer(&1, blob, hash)),
         # ssh-rsa signs with SHA-1.
         true <- signer.public.type != "ssh-rsa" or hash != :sha1,
         true <- allowed?(agent.ask, key, signer.public, data) do
      signature(key, signer, data)
    else
      _not_listed_or_not_allowed -> Message.failure()
    end
  end

  defp signer(key, blob, hash) do
    hash = if hash == :sha256, do: :sha256, else: :sha512

    case had(key, &Signer.fetch(&1, &2, hash, &3)) do
      {:ok, %{public: %{blob: ^blob}} = signer} -> {key, signer}
      _another_or_none -> nil
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

  defp signature(key, signer, data) do
    case Signer.sign(signer, data) do
      {:ok, signature} ->
        Message.signature(signature)

      {:error, error} ->
        warn(key, Exception.message(error))
        Message.failure()
    end
  end

  defp warn(key, text),
    do: Logger.warning("cryptoki ssh agent, key #{inspect(key.comment)}: #{text}")
end

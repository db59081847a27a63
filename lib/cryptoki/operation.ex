defmodule Cryptoki.Operation do
  @moduledoc """
  A multi-part operation: begun with `Cryptoki.start/5` on a session, fed piece by piece, finished.

      iex> Cryptoki.with_session(MyApp.HSM, fn session ->
      ...>   {:ok, op} = Cryptoki.start(session, :digest, :sha256)
      ...>   :ok = Cryptoki.Operation.update(op, "abc")
      ...>   {:ok, digest} = Cryptoki.Operation.finish(op)
      ...>   Base.encode16(digest, case: :lower)
      ...> end)
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

  An operation belongs to its session: a session does one at a time of each kind, and what is not
  finished when the session ends is cancelled. A step that fails ends the operation.
  """

  alias Cryptoki.{Ecdsa, Error, Request, Session, Target}

  # What is handed to the library at once.
  @piece 64 * 1024

  @enforce_keys [:session, :kind, :mechanism]
  defstruct [:session, :kind, :mechanism, form: :raw]

  @type kind :: :sign | :verify | :encrypt | :decrypt | :digest

  @typedoc "Its fields are private."
  @type t :: %__MODULE__{
          session: Session.t(),
          kind: kind,
          mechanism: term,
          form: :raw | :der | {:der, coordinate_size :: pos_integer}
        }

  @doc """
  Feeds iodata of any length; `{:ok, bytes}` for `:encrypt` and `:decrypt`, as many as the library
  gives back so far, `:ok` for the others.

  Errors: `:session_lost` when the session or the token went away, then the operation has to be
  begun again. PKCS #11 v3.2, sections 5.8, 5.10, 5.12, 5.13 and 5.15 (C_...Update).

      :ok = Cryptoki.Operation.update(op, ["some ", "data"])
  """
  @spec update(t, iodata) :: :ok | {:ok, binary} | {:error, Error.t()}
  def update(%__MODULE__{} = op, data) do
    data = data |> IO.iodata_to_binary() |> pieces()
    with {:ok, target} <- target(op), do: feed(op, target, data, [])
  end

  defp feed(%{kind: kind}, _target, [], out) when kind in [:encrypt, :decrypt],
    do: {:ok, IO.iodata_to_binary(out)}

  defp feed(_op, _target, [], _out), do: :ok

  defp feed(op, target, [piece | rest], out) do
    case Request.run(target, {:update, op.kind, piece}) do
      :ok -> feed(op, target, rest, out)
      {:ok, bytes} -> feed(op, target, rest, [out, bytes])
      {:error, %Error{}} = error -> error
    end
  end

  defp pieces(""), do: []
  defp pieces(<<piece::binary-size(@piece), rest::binary>>), do: [piece | pieces(rest)]
  defp pieces(rest), do: [rest]

  @doc """
  Ends the operation: the signature, the digest or the last bytes; `:verify` takes the signature and
  answers `:ok`.

  Errors: `:signature_invalid`, and what the token says of the data as a whole. PKCS #11 v3.2,
  sections 5.8, 5.10, 5.12, 5.13 and 5.15 (C_...Final).

      {:ok, signature} = Cryptoki.Operation.finish(op)
      :ok = Cryptoki.Operation.finish(verification, signature)
  """
  @spec finish(t, binary | nil) :: :ok | {:ok, binary} | {:error, Error.t()}
  def finish(op, signature \\ nil)

  def finish(%__MODULE__{kind: :verify} = op, signature) when is_binary(signature) do
    with {:ok, target} <- target(op),
         {:ok, signature} <- raw(signature, op.form),
         do: Request.run(target, {:final, :verify, signature})
  end

  def finish(%__MODULE__{kind: kind} = op, nil) when kind != :verify do
    with {:ok, target} <- target(op),
         {:ok, result} <- Request.run(target, {:final, kind, nil}) do
      {:ok, if(op.form == :der, do: Ecdsa.to_der(result), else: result)}
    end
  end

  def finish(%__MODULE__{kind: :verify}, _signature),
    do: raise(ArgumentError, "a verification is finished with the signature, a binary")

  def finish(%__MODULE__{kind: kind}, _signature),
    do:
      raise(ArgumentError, "an operation of kind #{inspect(kind)} is finished without signature")

  @doc """
  Gives the operation up; the session is free for another.

  PKCS #11 v3.2, section 5.6.5 (C_SessionCancel); libraries without it get the session reopened.

      :ok = Cryptoki.Operation.cancel(op)
  """
  @spec cancel(t) :: :ok | {:error, Error.t()}
  def cancel(%__MODULE__{} = op) do
    with {:ok, target} <- target(op), do: Request.run(target, {:cancel, op.kind})
  end

  defp raw(signature, {:der, size}), do: Ecdsa.from_der(signature, size)
  defp raw(signature, :raw), do: {:ok, signature}

  defp target(op) do
    with {:ok, target} <- Target.fetch(op.session),
         do: {:ok, %{target | mechanism: op.mechanism}}
  end
end

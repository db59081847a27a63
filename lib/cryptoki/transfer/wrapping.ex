defmodule Cryptoki.Transfer.Wrapping do
  @moduledoc false
  # How a key is wrapped for its way: by the wrapping key (RFC 5649), or, where that wraps secret keys of whole blocks only
  # (RFC 3394), by a transport key that is made for one text and wrapped likewise. What is made for a text is a key of
  # the session, and gone when it is done.

  require Logger

  alias Cryptoki.{Attribute, Call, Error, Key, Keys, Mechanism, Target}
  alias Cryptoki.Mechanism.IV
  alias Cryptoki.Native.Wait

  # RFC 5649, as the standard calls it since 3.1, and before.
  @padded [:aes_key_wrap_kwp, :aes_key_wrap_pad]
  @plain [:aes_key_wrap]
  @transport [class: :secret_key, key_type: :aes, token: false, private: true, sensitive: true]
  @transport_size 32
  @iv 16

  # That the wrapping key does not wrap this one so, in the words of tokens; not that it may not leave, or just now.
  @otherwise ~w[mechanism_invalid key_not_wrappable key_size_range data_len_range
                wrapping_key_type_inconsistent]a

  @typedoc "Of a text, with what else it has."
  @type wrapped :: %{
          required(:wrapped_key) => binary,
          required(:transport_key) => binary | nil,
          optional(atom) => term
        }

  @doc "A key of the token, wrapped."
  @spec key(Target.t(), Key.t(), Keys.handle()) :: {:ok, wrapped} | {:error, Error.t()}
  def key(target, kek, handle) do
    case wrap(target, kek.handle, handle, @padded) do
      {:ok, blob} ->
        {:ok, %{wrapped_key: blob, transport_key: nil}}

      {:error, %Error{reason: r} = error} when r in @otherwise ->
        twice(target, kek, handle, error)

      {:error, error} ->
        {:error, error}
    end
  end

  # Where this is no way either, what was said of the first one counts.
  defp twice(target, kek, handle, error) do
    with true <- unlimited?(target, kek), {:ok, wrapped} <- by_transport(target, kek, handle) do
      {:ok, wrapped}
    else
      {:error, %Error{reason: reason} = other} when reason not in @otherwise -> {:error, other}
      _no_way -> {:error, error}
    end
  end

  # A template says what a wrapping key may wrap: that is not got round. Kryoptic 1.5.4 shows none that is there, by an error.
  defp unlimited?(target, kek) do
    case Keys.read(target, kek.handle, [:wrap_template]) do
      {:ok, read} -> Attribute.readable(read)[:wrap_template] in [nil, %{}]
      {:error, _error} -> false
    end
  end

  defp by_transport(target, kek, handle) do
    template = @transport ++ [value_len: @transport_size, extractable: true, wrap: true]
    op = {:generate_key, Mechanism.encode!(:aes_key_gen), Attribute.encode!(template)}

    with {:ok, transport} <- Call.run(target, op) do
      for_a_while(target, transport, fn ->
        with {:ok, sealed} <- wrap(target, kek.handle, transport, @plain),
             {:ok, blob} <- wrap_chained(target, transport, handle),
             do: {:ok, %{wrapped_key: blob, transport_key: sealed}}
      end)
    end
  end

  defp wrap_chained(target, transport, handle) do
    iv = :crypto.strong_rand_bytes(@iv)
    mechanism = {:aes_cbc_pad, iv: iv}
    op = {:wrap_key, Mechanism.encode!(mechanism), transport, handle}

    with {:ok, result} <- Call.run(target, op),
         {:ok, blob} <- IV.answer(Mechanism.iv(mechanism), result, 0),
         do: {:ok, iv <> blob}
  end

  @doc "The key of the MAC, wrapped as the key of the text is, or as its transport key."
  @spec mac_key(Target.t(), Key.t(), Keys.handle(), wrapped) ::
          {:ok, binary} | {:error, Error.t()}
  def mac_key(target, kek, handle, wrapped),
    do: wrap(target, kek.handle, handle, mechanisms(wrapped))

  defp mechanisms(%{transport_key: nil}), do: @padded
  defp mechanisms(%{transport_key: _sealed}), do: @plain

  defp wrap(target, wrapping, handle, [name | others]) do
    with {:error, error} <-
           Call.run(target, {:wrap_key, Mechanism.encode!(name), wrapping, handle}),
         do: other(error, others, &wrap(target, wrapping, handle, &1))
  end

  ## Back

  @doc "The object of a template that the key of a text becomes."
  @spec unwrapped_key(Target.t(), Key.t(), map, Attribute.wire()) ::
          {:ok, Keys.handle()} | {:error, Error.t()}
  def unwrapped_key(target, kek, %{transport_key: nil} = wrapped, template),
    do: unwrap(target, kek.handle, wrapped.wrapped_key, template, @padded)

  def unwrapped_key(target, kek, %{transport_key: sealed, wrapped_key: blob}, template) do
    own = Attribute.encode!(@transport ++ [extractable: false, unwrap: true])
    {iv, blob} = :erlang.split_binary(blob, @iv)

    with {:ok, transport} <- unwrap(target, kek.handle, sealed, own, @plain) do
      for_a_while(target, transport, fn ->
        mechanism = Mechanism.encode!({:aes_cbc_pad, iv: iv})
        Call.run(target, {:unwrap_key, mechanism, transport, blob, template})
      end)
    end
  end

  @doc "The object of a template that the key of the MAC becomes."
  @spec unwrapped_mac_key(Target.t(), Key.t(), map, Attribute.wire()) ::
          {:ok, Keys.handle()} | {:error, Error.t()}
  def unwrapped_mac_key(target, kek, file, template),
    do: unwrap(target, kek.handle, file.mac_key, template, mechanisms(file))

  defp unwrap(target, wrapping, blob, template, [name | others]) do
    op = {:unwrap_key, Mechanism.encode!(name), wrapping, blob, template}

    with {:error, error} <- Call.run(target, op),
         do: other(error, others, &unwrap(target, wrapping, blob, template, &1))
  end

  # A token has RFC 5649 by one of the names.
  defp other(%Error{reason: :mechanism_invalid}, [_ | _] = others, again), do: again.(others)
  defp other(error, _others, _again), do: {:error, error}

  @doc "Runs a function, and then destroys the key that was made for it: for that there is the time of the call once more."
  @spec for_a_while(Target.t(), Keys.handle(), (() -> result)) :: result when result: term
  def for_a_while(target, handle, fun) do
    fun.()
  after
    target = %{target | deadline: Wait.deadline(target.timeout)}

    with {:error, error} <- Call.run(target, {:destroy, handle}) do
      Logger.warning(
        "cryptoki #{inspect(Target.called(target))}: a key that was made for a transfer could not be destroyed, it is " <>
          "there until its session ends: #{Exception.message(error)}"
      )
    end
  end

  @doc "How many bytes a transport key has when it is wrapped (RFC 3394)."
  @spec transport_size() :: pos_integer
  def transport_size, do: @transport_size + 8

  @doc "Whether it can be a key wrapped by a transport key, by its length: an IV, and whole blocks."
  @spec chained?(binary) :: boolean
  def chained?(blob), do: byte_size(blob) > @iv and rem(byte_size(blob), @iv) == 0
end

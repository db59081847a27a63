defmodule Mix.Tasks.Cryptoki.Pin do
  alias Mix.Cryptoki.Secrets

  use Mix.Cryptoki,
    usage: "URI [--init | --so] [options]",
    switches: [init: :boolean, so: :boolean] ++ Secrets.switches([:new_pin, :so_pin])

  alias Cryptoki.{Error, Opening, Token, URI}
  alias Mix.Cryptoki.Place

  @shortdoc "Changes a PIN of a token, or sets it anew"

  @moduledoc """
  Changes the PIN of a token's user, with the one it has. Or, as the security officer, gives the user a PIN:
  a first one, or another one after the PIN was forgotten or locked.

      $ mix cryptoki.pin "pkcs11:token=payments"
      $ mix cryptoki.pin "pkcs11:token=payments" --init
      $ mix cryptoki.pin "pkcs11:token=payments" --so

    * `--init`, `-i`: the security officer sets the PIN of the user
    * `--so`, `-s`: changes the PIN of the security officer instead
    * #{Secrets.docs(:new_pin, "the PIN from now on")}, twice
    * #{Secrets.docs(:so_pin, "the PIN of the security officer")}

  #{Mix.Cryptoki.docs()}
  """

  defp task([], _options), do: raise(ArgumentError, "name a token by a PKCS #11 URI")

  defp task(arguments, options) do
    uri = Place.uri!(arguments, options)
    what = what!(uri, options)

    with {:ok, slots, fitting} <- Place.slots(uri, options),
         {:ok, slot} <- Place.one(fitting, slots),
         {:ok, %{library: library}} <- Place.where(uri, options) do
      own = Keyword.take(library, [:library, :init_args, :timeout])
      change(what, slot, uri, options, own)
    end
  end

  defp what!(uri, options) do
    what = if options[:init], do: :init, else: if(options[:so], do: :so, else: :user)

    cond do
      options[:init] && options[:so] ->
        raise ArgumentError, "--init and --so are two things: leave one of them out"

      what != :user && URI.pin(uri) != {:ok, nil} ->
        raise ArgumentError,
              "the PIN in the URI is the user's, who is not asked: say --so-pin-file"

      true ->
        what
    end
  end

  defp change(:init, slot, _uri, options, own) do
    with {:ok, so_pin} <- secret(slot, fn -> so_pin(options) end),
         {:ok, pin} <- secret(slot, fn -> new("new PIN of the user", options) end),
         do: Token.init_pin(Opening.token(slot), [so_pin: so_pin, pin: pin] ++ own)
  end

  defp change(:so, slot, _uri, options, own) do
    with {:ok, old} <- secret(slot, fn -> so_pin(options) end),
         {:ok, new} <- secret(slot, fn -> new("new PIN of the security officer", options) end),
         do: Token.set_pin(Opening.token(slot), [old: old, new: new, user: :so] ++ own)
  end

  defp change(:user, slot, uri, options, own) do
    with :ok <- has_pin(slot),
         {:ok, old} <- Opening.pin(slot, uri, Place.ways(options)),
         {:ok, new} <- secret(slot, fn -> new("new PIN", options) end),
         do: Token.set_pin(Opening.token(slot), [old: old, new: new] ++ own)
  end

  defp has_pin(slot) do
    cond do
      :user_pin_initialized in slot.token.flags and :login_required in slot.token.flags ->
        :ok

      :login_required not in slot.token.flags ->
        {:error, Error.new(:unsupported, "the token asks for no PIN")}

      true ->
        {:error, Error.new(:user_pin_not_initialized, "say --init")}
    end
  end

  defp so_pin(options), do: Secrets.fetch(:so_pin, options, "PIN of the security officer")
  defp new(question, options), do: Secrets.choose(:new_pin, options, question)

  # What is typed at the token is not asked for here.
  defp secret(slot, fetch) do
    if :protected_authentication_path in slot.token.flags,
      do: {:ok, :protected_path},
      else: fetch.()
  end
end

defmodule Mix.Cryptoki.Doctor.Access do
  @moduledoc false
  # Where the PIN would come from, looked at and not tried; and the login, where the command asks for it.

  alias Cryptoki.{Error, Pin, URI}
  alias Mix.Cryptoki.{Doctor, Place, Secrets}
  alias Mix.Cryptoki.Doctor.{Permission, Token}

  @doc "Whether there is a PIN, and one that the token might take."
  @spec pin(map, URI.t(), keyword) :: [Doctor.finding()]
  def pin(%{token: %{flags: flags}} = slot, uri, options) do
    cond do
      :login_required not in flags -> [{:ok, "the token asks for no PIN", []}]
      :protected_authentication_path in flags -> [{:ok, "the PIN is typed at the token", []}]
      true -> uri |> source(options) |> look(slot)
    end
  end

  defp source(uri, options) do
    with {:ok, nil} <- URI.pin(uri),
         do: {:ok, Secrets.named(:pin, options) || Secrets.usual(:pin)}
  end

  defp look({:error, error}, _slot), do: [{:wrong, Exception.message(error), []}]

  defp look({:ok, nil}, slot) do
    uri = Place.token_uri(slot.token)

    [
      {:careful, "no PIN is named: tasks and iex ask for it, an instance wants pin:",
       [
         "mix cryptoki.objects #{Token.shell(uri)}    # asks for it",
         "mix cryptoki.objects #{Token.shell(uri <> "?pin-source=/run/secrets/pin")}    # a file, for you alone"
       ]}
    ]
  end

  defp look({:ok, source}, slot) do
    case Pin.hidden(fn -> source |> Pin.wrap() |> Pin.fetch() |> judged(slot.token) end) do
      :ok ->
        [{:ok, "the PIN comes from #{where(source)}, and was not tried", []} | readers(source)]

      sentence ->
        [{:wrong, "the PIN comes from #{where(source)}: #{sentence}", []} | readers(source)]
    end
  end

  # Of the PIN itself nothing is said but whether the token could take it.
  defp judged({:error, error}, _token), do: error.detail

  defp judged({:ok, pin}, token) when is_binary(pin) do
    cond do
      pin =~ ~r/\A\s|\s\z/ ->
        "it begins or ends with a blank, or a line end"

      byte_size(pin) < token.min_pin_len ->
        "it is shorter than the #{token.min_pin_len} bytes that the token takes"

      token.max_pin_len > 0 and byte_size(pin) > token.max_pin_len ->
        "it is longer than the #{token.max_pin_len} bytes that the token takes"

      true ->
        :ok
    end
  end

  defp where({:file, path}), do: path
  defp where({:env, name}), do: name
  defp where(_value), do: "the URI"

  defp readers({:file, path}) do
    case File.stat(path) do
      {:ok, %{mode: mode} = stat} when Bitwise.band(mode, 0o004) != 0 ->
        [
          {:careful, "everybody on this machine can read #{path} (mode #{Permission.mode(stat)})",
           ["chmod o= #{Token.shell(path)}"]}
        ]

      _private_or_not_there ->
        []
    end
  end

  defp readers(_other), do: []

  ## The login

  @doc "Logs in, if `--login` says so, and looks for the object that the URI names."
  @spec login(map, URI.t(), keyword) :: [Doctor.finding()]
  def login(%{token: %{flags: flags}} = slot, uri, options) do
    cond do
      !options[:login] or hopeless?(flags) ->
        []

      :user_pin_final_try in flags ->
        [{:wrong, "the PIN was not tried: it is the last try", []}]

      true ->
        slot |> Token.uri(uri) |> Place.logged_in(options, &{:ok, objects(&1, uri)}) |> answered()
    end
  end

  # Said already.
  defp hopeless?(flags) do
    :user_pin_locked in flags or
      (:login_required in flags and :user_pin_initialized not in flags)
  end

  defp answered({:ok, findings}), do: findings
  defp answered({:error, %Error{} = error}), do: [{:wrong, Exception.message(error), []}]

  defp objects(hsm, uri) do
    with {:ok, found} <- Cryptoki.find(hsm, URI.to_selector(uri)) do
      case {found, URI.to_selector(uri)} do
        {_found, []} ->
          [{:ok, "the login works: #{length(found)} objects are there", []}]

        {[], _selector} ->
          missing(uri)

        {found, _selector} ->
          [
            {:ok, "the login works, and the URI fits #{Enum.map_join(found, ", ", &inspect/1)}",
             []}
          ]
      end
    else
      {:error, error} -> [{:wrong, Exception.message(error), []}]
    end
  end

  defp missing(uri) do
    place = Token.shell(to_string(URI.place(uri)))
    [{:wrong, "the login works, and no object fits the URI", ["mix cryptoki.objects #{place}"]}]
  end
end

defmodule Mix.Cryptoki.Words do
  @moduledoc false
  # Names of the standard, and mechanisms and attributes with their values, as a command line has them.

  alias Cryptoki.{Attribute, Error}

  @uses ~w[sign verify encrypt decrypt wrap unwrap derive]

  @doc "An atom of the command line, for a name of the standard."
  @spec name(String.t()) :: atom
  def name(text), do: text |> String.downcase() |> String.replace("-", "_") |> String.to_atom()

  ## Mechanisms

  @doc """
  What `--mechanism` takes, for documentation.
  """
  @spec mechanism_docs() :: String.t()
  def mechanism_docs do
    "`--mechanism NAME`, `-m`: the mechanism in lower case without `CKM_`, with its arguments as " <>
      "`Cryptoki.Mechanism` names them: `rsa_pkcs_pss:hash=sha256,mgf=mgf1_sha256,salt_len=32`. Bytes are " <>
      "`0x` and hexadecimal digits, an argument of an argument has a dot: `oaep.hash=sha256`"
  end

  @doc """
  The mechanism of `--mechanism`, as `name` or `name:argument=value,argument=value`; without it, the
  usual one of this table for keys of this type. Raises `ArgumentError`.
  """
  @spec mechanism!(pid, keyword, keyword, %{atom => Cryptoki.mechanism()}) :: Cryptoki.mechanism()
  def mechanism!(hsm, selector, options, usual) do
    if text = options[:mechanism],
      do: mechanism!(text),
      else: usual!(Cryptoki.find!(hsm, selector), usual)
  end

  @doc "A mechanism as it is written. Raises `ArgumentError`."
  @spec mechanism!(String.t()) :: Cryptoki.mechanism()
  def mechanism!(text) do
    case {String.split(text, ":", parts: 2), number(text)} do
      {[_name, arguments], nil} when arguments != "" ->
        {name(hd(String.split(text, ":"))), arguments!(arguments)}

      {[_name], nil} ->
        name(text)

      {[_number], number} ->
        {number, ""}

      {[_number, bytes], number} ->
        {number, bytes!(bytes)}

      _nothing_behind ->
        raise ArgumentError, "--mechanism: nothing stands behind the colon of #{text}"
    end
  end

  defp number("0x" <> rest) do
    case Integer.parse(rest, 16) do
      {number, more} when more == "" or binary_part(more, 0, 1) == ":" -> number
      _none -> nil
    end
  end

  defp number(_text), do: nil

  defp arguments!(text) do
    for one <- String.split(text, ","), reduce: [] do
      arguments -> argument!(arguments, one)
    end
  end

  defp argument!(arguments, text) do
    case String.split(text, "=", parts: 2) do
      [names, value] -> put(arguments, Enum.map(String.split(names, "."), &name/1), value(value))
      _other -> raise ArgumentError, "--mechanism: #{text} is not argument=value"
    end
  end

  defp put(arguments, [name], value), do: arguments ++ [{name, value}]

  defp put(arguments, [name | names], value),
    do: Keyword.put(arguments, name, put(List.wrap(arguments[name]), names, value))

  defp value(text) do
    case {Integer.parse(text), bytes(text)} do
      {{number, ""}, _bytes} -> number
      {_no_number, {:ok, bytes}} -> bytes
      _neither -> name(text)
    end
  end

  defp bytes!(text) do
    case bytes(text) do
      {:ok, bytes} -> bytes
      :error -> raise ArgumentError, "#{text} is not 0x and hexadecimal digits, two for a byte"
    end
  end

  defp bytes("0x" <> digits), do: Base.decode16(digits, case: :mixed)
  defp bytes(_text), do: :error

  defp usual!(keys, usual) do
    case keys |> Enum.map(& &1.key_type) |> Enum.reject(&is_nil/1) |> Enum.uniq() do
      [] -> raise Error.new(:key_not_found)
      [type] when is_map_key(usual, type) -> usual[type]
      _others -> raise ArgumentError, "say how with --mechanism"
    end
  end

  ## Attributes

  @doc "The options of `--for`: what is not named is forbidden, since some tokens allow what is left out."
  @spec uses!(keyword) :: keyword
  def uses!(options) do
    uses = options[:for] && String.split(options[:for], ",", trim: true)

    for use <- uses || [], use not in @uses do
      raise ArgumentError, "--for #{use} is none of #{Enum.join(@uses, ", ")}"
    end

    for use <- @uses, uses, do: {name(use), use in uses}
  end

  @spec uses_docs() :: String.t()
  def uses_docs,
    do: "`--for USES`, `-f`: what the key is for and nothing else, of #{Enum.join(@uses, ", ")}"

  @doc "All that an option gives as `name=value`, as a template. Raises `ArgumentError`."
  @spec template!(keyword, atom) :: keyword
  def template!(options, option) do
    for text <- Keyword.get_values(options, option) do
      case String.split(text, "=", parts: 2) do
        [name, value] -> attribute!(name(name), value)
        _other -> raise ArgumentError, "--#{option}: #{text} is not attribute=value"
      end
    end
  end

  # In the first of the forms that the attribute may have; text is the last, which all may.
  defp attribute!(name, text) do
    _ = Attribute.type!(name)

    hex =
      if name in [:label, :application, :url],
        do: [],
        else: for({:ok, bytes} <- [bytes(text)], do: bytes)

    numbers = for {number, ""} <- [Integer.parse(text)], do: number
    value = Enum.find(hex ++ numbers ++ [name(text)], text, &fits?(name, &1))
    {name, value}
  end

  defp fits?(name, value) do
    _ = Attribute.encode!([{name, value}])
    true
  rescue
    ArgumentError -> false
  end
end

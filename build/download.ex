defmodule Cryptoki.Build.Download do
  @moduledoc false
  # Fetches a file by HTTPS, with what Mix and Hex are told about proxies and certificates:
  #
  #     HTTPS_PROXY, NO_PROXY       or in lower case
  #     HEX_CACERTS_PATH            a file of certificates in the place of the system's
  #
  # and where they say nothing with what OTP is told: the proxy of httpc's default profile, and the certificates of
  # public_key, which are the system's unless others were loaded.
  #
  # http only at this machine itself, as for a mirror behind a tunnel. Who calls compares the checksum.

  alias Cryptoki.Build.Target

  @largest 64 * 1024 * 1024
  @redirects 5
  # Milliseconds: to connect, without a byte, and in all.
  @connect 30_000
  @silence 60_000
  @whole 600_000

  @doc "The bytes at a URL, or why there are none, as the end of a sentence."
  @spec get(String.t()) :: {:ok, binary} | {:error, String.t()}
  def get(url) do
    with {:ok, uri} <- allowed(url, nil),
         :ok <- started() do
      # In a process of its own: a late answer goes nowhere.
      fn -> with_profile(fn -> follow(uri, authorization(uri), @redirects) end) end
      |> Task.async()
      |> Task.await(:infinity)
    end
  end

  @doc "A URL as it may be printed: without a password."
  @spec shown(String.t() | URI.t()) :: String.t()
  def shown(url), do: to_string(%{URI.parse(to_string(url)) | userinfo: nil})

  # Where to ----------------------------------------------------------------------------------

  defp allowed(url, from) do
    case URI.new(url) do
      {:ok, %URI{scheme: "https", host: host} = uri} when host not in [nil, ""] ->
        {:ok, uri}

      {:ok, %URI{scheme: "http", host: host} = uri} when host not in [nil, ""] ->
        # An answer by https does not lead to anything less.
        if loopback?(host) and (is_nil(from) or from.scheme == "http"),
          do: {:ok, uri},
          else: {:error, "#{shown(uri)} is not fetched: only https is, or http from this machine"}

      _ ->
        {:error, "#{inspect(String.replace(url, ~r{//[^/]*@}, "//"))} is no URL of https"}
    end
  end

  defp loopback?("localhost"), do: true

  defp loopback?(host) do
    case :inet.parse_address(to_charlist(host)) do
      {:ok, {127, _, _, _}} -> true
      {:ok, {0, 0, 0, 0, 0, 0, 0, 1}} -> true
      _ -> false
    end
  end

  # What is needed for it ---------------------------------------------------------------------

  defp started do
    missing = Enum.find([:inets, :ssl, :public_key], &(not started?(&1)))

    if missing,
      do: {:error, "this Erlang cannot fetch it, without its application #{missing}"},
      else: :ok
  end

  defp started?(application) do
    # Newer releases of Mix take what a project does not name out of the code path.
    if function_exported?(Mix, :ensure_application!, 1),
      do: apply(Mix, :ensure_application!, [application])

    match?({:ok, _}, Application.ensure_all_started(application))
  rescue
    Mix.Error -> false
  end

  defp certificates do
    case Target.variable("HEX_CACERTS_PATH") do
      nil -> {:ok, cacerts: :public_key.cacerts_get()}
      path -> if File.regular?(path), do: {:ok, cacertfile: path}, else: no_certificates(path)
    end
  rescue
    # It raises where the system has none, and is not there before OTP 25.
    _ -> no_certificates("this system")
  end

  defp no_certificates(where) do
    {:error,
     "no certificates of authorities are found in #{where}: install ca-certificates, or set HEX_CACERTS_PATH"}
  end

  defp tls(%URI{scheme: "http"}), do: {:ok, []}

  defp tls(uri) do
    with {:ok, certificates} <- certificates() do
      match = :public_key.pkix_verify_hostname_match_fun(:https)
      options = [verify: :verify_peer, depth: 8, customize_hostname_check: [match_fun: match]]
      {:ok, [ssl: certificates ++ options ++ server_name(uri.host)]}
    end
  end

  # Behind a proxy only this says whose certificate it has to be. An address is no name, and is not accepted there.
  defp server_name(host) do
    host = to_charlist(host)
    if match?({:ok, _}, :inet.parse_address(host)), do: [], else: [server_name_indication: host]
  end

  defp authorization(%URI{userinfo: nil}), do: []

  defp authorization(%URI{userinfo: userinfo}),
    do: [{~c"authorization", to_charlist("Basic " <> Base.encode64(URI.decode(userinfo)))}]

  # The proxy of a URL as httpc takes it, with the name and password for it.
  defp proxy(uri) do
    proxy = variable("HTTPS_PROXY")

    cond do
      loopback?(uri.host) or direct?(uri.host) -> {[], []}
      proxy -> named_proxy(proxy)
      true -> {otp_proxy(), []}
    end
  end

  # The default profile has its own list of hosts without one.
  defp otp_proxy do
    case :httpc.get_options([:https_proxy], :default) do
      {:ok, [https_proxy: {{_host, _port}, _direct}] = options} -> options
      _ -> []
    end
  end

  defp named_proxy(proxy) do
    case URI.parse(if proxy =~ "://", do: proxy, else: "http://" <> proxy) do
      %URI{host: host, port: port, userinfo: userinfo} when is_binary(host) ->
        {[https_proxy: {{to_charlist(host), port || 80}, []}], proxy_password(userinfo)}

      _ ->
        {[], []}
    end
  end

  defp proxy_password(nil), do: []

  defp proxy_password(userinfo) do
    [user | password] = String.split(userinfo, ":", parts: 2)
    decoded = &(&1 |> URI.decode() |> to_charlist())
    [proxy_auth: {decoded.(user), decoded.(Enum.join(password))}]
  end

  # A name stands for what is below it too.
  defp direct?(host) do
    for entry <- String.split(variable("NO_PROXY") || "", [",", " "], trim: true),
        name = entry |> String.replace(~r/:\d+$/, "") |> String.trim_leading("*"),
        name = String.trim_leading(name, "."),
        reduce: false do
      direct? -> direct? or entry == "*" or host == name or String.ends_with?(host, "." <> name)
    end
  end

  defp variable(name), do: Target.variable(name) || Target.variable(String.downcase(name))

  # The client --------------------------------------------------------------------------------

  defp with_profile(function) do
    {:ok, client} = :inets.start(:httpc, profile: profile())

    try do
      function.()
    after
      :inets.stop(:httpc, client)
    end
  end

  defp profile, do: :cryptoki_build

  defp follow(uri, _headers, 0),
    do: {:error, "#{shown(uri)} is the end of more than #{@redirects} redirections"}

  defp follow(uri, headers, left) do
    case request(uri, headers) do
      {:redirect, location} ->
        with {:ok, next} <- allowed(uri |> URI.merge(location) |> to_string(), uri) do
          # A password is for the host that it was given for.
          same? = {next.scheme, next.host, next.port} == {uri.scheme, uri.host, uri.port}
          follow(next, if(same?, do: headers, else: []), left - 1)
        end

      {:ok, bytes} ->
        {:ok, bytes}

      {:error, why} ->
        {:error, "#{shown(uri)} could not be fetched: #{why}"}
    end
  end

  defp request(uri, headers) do
    {proxy, password} = proxy(uri)

    with {:ok, tls} <- tls(uri) do
      :ok = :httpc.set_options(proxy, profile())
      http = [autoredirect: false, connect_timeout: @connect, timeout: @whole] ++ password ++ tls
      how = [sync: false, stream: {:self, :once}, body_format: :binary]
      url = %{uri | userinfo: nil, fragment: nil} |> to_string() |> to_charlist()
      headers = [{~c"user-agent", ~c"cryptoki"} | headers]

      case :httpc.request(:get, {url, headers}, http, how, profile()) do
        {:ok, request} -> answer(request)
        {:error, reason} -> {:error, sentence(reason)}
      end
    end
  end

  defp answer(request) do
    receive do
      {:http, {^request, :stream_start, _headers, pid}} ->
        body(request, pid, [], 0)

      {:http, {^request, {{_, status, _}, headers, _body}}}
      when status in 301..303 or status in 307..308 ->
        {:redirect, headers |> List.keyfind(~c"location", 0, {nil, ""}) |> elem(1) |> to_string()}

      {:http, {^request, {{_, status, _}, _headers, _body}}} ->
        {:error, "the server answers #{status}"}

      {:http, {^request, {:error, reason}}} ->
        {:error, sentence(reason)}
    after
      @silence -> silent(request)
    end
  end

  # Asked for piece by piece, so that the longest is known.
  defp body(request, pid, parts, size) do
    :httpc.stream_next(pid)

    receive do
      {:http, {^request, :stream, part}} when size + byte_size(part) <= @largest ->
        body(request, pid, [parts, part], size + byte_size(part))

      {:http, {^request, :stream, _part}} ->
        :httpc.cancel_request(request, profile())
        {:error, "it is larger than #{div(@largest, 1024 * 1024)} MiB"}

      {:http, {^request, :stream_end, _headers}} ->
        {:ok, IO.iodata_to_binary(parts)}

      {:http, {^request, {:error, reason}}} ->
        {:error, sentence(reason)}
    after
      @silence -> silent(request)
    end
  end

  defp silent(request) do
    :httpc.cancel_request(request, profile())
    {:error, "the server says nothing"}
  end

  # httpc's reasons are deep.
  defp sentence({:failed_connect, tries}) when is_list(tries) do
    case List.last(tries) do
      {_family, _options, reason} -> sentence(reason)
      _ -> "no connection"
    end
  end

  defp sentence({:tls_alert, {alert, text}}) do
    cond do
      to_string(text) =~ "hostname_check_failed" ->
        "its certificate is for another host"

      alert in [:unknown_ca, :bad_certificate, :certificate_expired] ->
        "its certificate is not accepted (#{alert}); for an authority of your own set HEX_CACERTS_PATH"

      true ->
        "TLS ends with #{alert}"
    end
  end

  defp sentence(:nxdomain), do: "there is no such host"
  defp sentence(:timeout), do: "no answer in time"
  defp sentence(:socket_closed_remotely), do: "the connection was closed"

  defp sentence(reason) when is_atom(reason) do
    case :inet.format_error(reason) do
      ~c"unknown POSIX error" -> to_string(reason)
      text -> to_string(text)
    end
  end

  defp sentence(reason), do: inspect(reason, limit: 10, printable_limit: 100)
end
